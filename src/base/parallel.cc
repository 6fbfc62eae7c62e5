// A pool of our own and not OpenMP's: libgomp's threads spin between loops,
// which makes a busy machine tens of times slower, and can be told not to only
// by an environment variable read before main. Here a waiting thread spins for
// some microseconds, the length of the serial parts of a decoding step, then
// sleeps.
#include "base/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace mobe {
namespace {

thread_local int t_index = 0;
thread_local bool t_inside = false;

// Waits until `value` is no longer `old`.
void WaitWhile(const std::atomic<int>& value, int old) {
  constexpr int kSpins = 2000;
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  value.wait(old, std::memory_order_acquire);
}

// One loop: threads take indices until there are none left or one failed.
class Loop {
 public:
  Loop(int64_t count, const std::function<void(int64_t)>& body)
      : count_(count), body_(body) {}

  void Run(int thread) {
    t_index = thread;
    t_inside = true;
    for (;;) {
      const int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= count_ || failed_.load(std::memory_order_relaxed)) break;
      try {
        body_(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!error_) error_ = std::current_exception();
        failed_.store(true, std::memory_order_relaxed);
      }
    }
    t_inside = false;
    t_index = 0;
  }

  void Rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const int64_t count_;
  const std::function<void(int64_t)>& body_;
  std::atomic<int64_t> next_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
};

class Pool {
 public:
  // The calling thread of Run is one of the threads.
  explicit Pool(int threads) {
    for (int t = 1; t < threads; ++t) {
      workers_.emplace_back([this, t] { Work(t); });
    }
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    loop_ = nullptr;
    Start();
    for (std::thread& worker : workers_) worker.join();
  }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  void Run(Loop* loop) {
    const std::lock_guard<std::mutex> lock(mutex_);
    loop_ = loop;
    busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    Start();
    loop->Run(0);
    for (int busy = busy_.load(std::memory_order_acquire); busy != 0;
         busy = busy_.load(std::memory_order_acquire)) {
      WaitWhile(busy_, busy);
    }
  }

 private:
  void Start() {
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
  }

  void Work(int thread) {
    omp_set_num_threads(1);  // see MakePool; the setting is the thread's own
    for (int round = 0;;) {
      WaitWhile(round_, round);
      ++round;
      if (loop_ == nullptr) return;
      loop_->Run(thread);
      busy_.fetch_sub(1, std::memory_order_acq_rel);
      busy_.notify_one();
    }
  }

  std::mutex mutex_;           // one loop at a time
  Loop* loop_ = nullptr;       // written before round_ is raised
  std::atomic<int> round_{0};  // loops begun
  std::atomic<int> busy_{0};   // workers that have not finished this one
  std::vector<std::thread> workers_;
};

// oneDNN has OpenMP threads of its own: it stays serial, so that the order of
// its sums never depends on the machine.
std::unique_ptr<Pool> MakePool(int threads) {
  omp_set_num_threads(1);
  return std::make_unique<Pool>(threads > 0 ? threads : omp_get_num_procs());
}

std::unique_ptr<Pool>& ThePool() {
  static std::unique_ptr<Pool> pool = MakePool(0);
  return pool;
}

}  // namespace

void SetThreads(int threads) { ThePool() = MakePool(threads); }

int Threads() { return ThePool()->threads(); }

void ParallelFor(int64_t count, const std::function<void(int64_t)>& body) {
  if (count <= 1 || t_inside || Threads() == 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  Loop loop(count, body);
  ThePool()->Run(&loop);
  loop.Rethrow();
}

void ParallelRanges(int64_t count, int64_t grain,
                    const std::function<void(int64_t, int64_t)>& body) {
  ParallelFor((count + grain - 1) / grain, [&](int64_t i) {
    body(i * grain, std::min(count, (i + 1) * grain));
  });
}

int ThreadIndex() { return t_index; }

}  // namespace mobe
