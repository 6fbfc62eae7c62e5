// Threads that take jobs to devices, as many as these take at a time, while the
// caller looks after what is finished.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "fit/device.h"

namespace mobe {

class DeviceWorkers {
 public:
  // Does a job as thread number `thread` (from 0), or returns false where there
  // is none now; it is called again and again, until it throws or the end. Soon
  // after all.ending() it must throw StopWork (crew.h).
  using WorkFn = std::function<bool(FitDevice* device, int64_t thread,
                                    const DeviceWorkers& all)>;
  DeviceWorkers(const std::vector<FitDevice*>& devices, WorkFn work);
  DeviceWorkers(const DeviceWorkers&) = delete;
  DeviceWorkers& operator=(const DeviceWorkers&) = delete;
  // Waits for their end.
  ~DeviceWorkers();

  bool ending() const { return ending_; }
  // Rethrows the first failure.
  void Check();

 private:
  void Work(FitDevice* device, int64_t thread);
  void End();

  const WorkFn work_;
  std::atomic<bool> ending_ = false;
  std::mutex mutex_;
  std::exception_ptr failure_;
  std::vector<std::thread> threads_;
};

}  // namespace mobe
