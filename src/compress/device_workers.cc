#include "compress/device_workers.h"

#include <chrono>
#include <utility>

#include "base/thread.h"

namespace mobe {

DeviceWorkers::DeviceWorkers(const std::vector<FitDevice*>& devices,
                             WorkFn work)
    : work_(std::move(work)) {
  try {
    for (FitDevice* device : devices) {
      for (int64_t i = 0; i < device->jobs(); ++i) {
        const auto thread = static_cast<int64_t>(threads_.size());
        threads_.push_back(StartThread([=, this] { Work(device, thread); }));
      }
    }
  } catch (...) {
    End();
    throw;
  }
}

DeviceWorkers::~DeviceWorkers() { End(); }

void DeviceWorkers::End() {
  ending_ = true;
  for (std::thread& thread : threads_) thread.join();
}

void DeviceWorkers::Check() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
}

void DeviceWorkers::Work(FitDevice* device, int64_t thread) {
  // A job that another rank had may come back, when that is lost.
  constexpr auto kWait = std::chrono::milliseconds(50);
  try {
    while (!ending_) {
      if (!work_(device, thread, *this)) std::this_thread::sleep_for(kWait);
    }
  } catch (...) {  // with StopWork at the end, which nobody asks for any more
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

}  // namespace mobe
