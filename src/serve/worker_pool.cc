#include "serve/worker_pool.h"

#include "base/error.h"
#include "base/thread.h"

namespace mobe {

WorkerPool::Taken WorkerPool::enqueue(std::function<void()> task) {
  std::unique_lock lock(mutex_);
  tasks_.push_back(std::move(task));
  if (idle_ < std::ssize(tasks_) && std::ssize(threads_) < most_) {
    try {
      threads_.push_back(StartThread([this] { Work(); }));
    } catch (const Error&) {
      // One of those that there are will take it; without any, the caller's.
      if (threads_.empty()) {
        const std::function<void()> own = std::move(tasks_.front());
        tasks_.pop_front();
        lock.unlock();
        own();
        return static_cast<Taken>(true);
      }
    }
  }
  wake_.notify_one();
  return static_cast<Taken>(true);
}

void WorkerPool::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    wake_.wait(lock, [this] { return ends_ || !tasks_.empty(); });
    --idle_;
    if (tasks_.empty()) return;
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}

void WorkerPool::shutdown() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

}  // namespace mobe
