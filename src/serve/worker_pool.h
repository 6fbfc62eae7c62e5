// Threads for the connections of cpp-httplib. Its own pool starts all of them
// at once, and ends the program where the system starts no more.
#pragma once

#include <httplib.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace mobe {

class WorkerPool : public httplib::TaskQueue {
 public:
  // Up to `most` threads, started when all others are busy. What comes when all
  // that there can be are busy waits.
  explicit WorkerPool(int64_t most) : most_(most) {}

  // Newer versions of the library want to know whether it was taken.
  using Taken = decltype(std::declval<httplib::TaskQueue&>().enqueue({}));
  Taken enqueue(std::function<void()> task) override;
  // Ends the threads when all tasks are done.
  void shutdown() override;

 private:
  void Work();

  const int64_t most_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  int64_t idle_ = 0;
  bool ends_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace mobe
