// The devices of PyTorch, and the module's entry.
#include "fit/torch/module.h"

#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <fmt/format.h>
#include <malloc.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <string>

#include "fit/torch/memory.h"
#include "fit/torch/solve.h"
#include "fit/torch/state.h"

namespace mobe::torch {
namespace {

// What PyTorch throws becomes an error of ours, of one line.
template <class Work>
auto Guarded(const std::string& device, const Work& work) {
  const c10::InferenceMode no_gradients;
  try {
    return work();
  } catch (const c10::OutOfMemoryError&) {
    Fail(ErrorKind::kOutOfMemory,
         "{} has no memory left for the fit; free it of other programs, or fit "
         "with fewer --bases, on a larger card or with --device cpu",
         device);
  } catch (const c10::Error& e) {
    Fail(ErrorKind::kInternal, "{}: {}", device, e.what_without_backtrace());
  }
}

// The most bytes of tensors that lived at the same time in memory of the
// process, of those that this thread made.
class CpuBytes : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t,
                         c10::Device) override {
    now_ += bytes;
    most_ = std::max(most_, now_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t most() const { return most_; }

 private:
  int64_t now_ = 0;
  int64_t most_ = 0;
};

// Operations a second of products of such matrices, with float32 sums.
double ProductSpeed(const at::Device& device, at::ScalarType type,
                    int64_t size) {
  using Clock = std::chrono::steady_clock;
  constexpr int kCount = 20;
  const Tensor a = at::ones({size, size}, at::device(device).dtype(type));
  const auto multiply = [&] {
    return type == at::kFloat ? at::mm(a, a) : at::mm(a, a, at::kFloat);
  };
  multiply()[0][0].item<float>();  // once to begin with; waits
  const auto start = Clock::now();
  Tensor product;
  for (int i = 0; i < kCount; ++i) product = multiply();
  product[0][0].item<float>();
  const std::chrono::duration<double> seconds = Clock::now() - start;
  const double operations = 2.0 * std::pow(static_cast<double>(size), 3);
  return operations * kCount / seconds.count();
}

// Whether products of bfloat16 with float32 sums are there, and worth it.
bool HasFastHalf(const at::Device& device) {
  constexpr int64_t kSize = 2048;
  try {
    return ProductSpeed(device, at::kBFloat16, kSize) >
           ProductSpeed(device, at::kFloat, kSize);
  } catch (const c10::Error&) {
    return false;
  }
}

class Device : public FitDevice {
 public:
  Device(int card, std::string model, int threads)
      : name_(card < 0 ? "torch-cpu" : fmt::format("cuda:{}", card)),
        threads_(threads) {
    if (card < 0) {
      at::set_num_threads(threads);
      // What a chunk of experts frees, the next one asks for: to give pages
      // back in between takes an eighth of a pass. It is for the whole process,
      // which this device is a test of.
      mallopt(M_MMAP_MAX, 0);
      mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
      cpu_bytes_ = std::make_shared<CpuBytes>();
      kind_ = "PyTorch " TORCH_VERSION;
      return;
    }
    machine_.device = at::Device(at::kCUDA, static_cast<int8_t>(card));
    machine_.has_half = HasFastHalf(machine_.device);
    if (model.empty()) {
      model = fmt::format("card of {:.0f} GB",
                          static_cast<double>(MemoryInfo().second) / 1e9);
    }
    // Which of both a measurement tells, and the other one rounds otherwise.
    kind_ = model + (machine_.has_half ? ", bfloat16" : ", float32") +
            ", PyTorch " TORCH_VERSION;
  }

  const std::string& name() const override { return name_; }
  const std::string& kind() const override { return kind_; }

  void Run(const std::function<void()>& work) override {
    const c10::DebugInfoGuard counted(c10::DebugInfoKind::PROFILER_STATE,
                                      cpu_bytes_);
    Guarded(name_, work);
  }

  std::unique_ptr<FitState> Begin(const FitTarget& target,
                                  const FitOptions& options) override {
    const MemoryPlan plan =
        Plan({target.experts, target.rows, target.cols, options.rank,
              options.num_bases, options.basis_rank,
              target.moment.size() > 0 ? 1 : 0});
    Machine machine = machine_;
    machine.chunk = plan.chunk;
    machine.target_on_host = plan.target_on_host;
    return BeginFit(machine, target, options);
  }

  void SolveA(const FitTarget& target, Factors* factors) override {
    torch::SolveA(machine_, target, factors);
  }

  void SolveForOutputs(const ExpertOutputs& outputs, const RoutedInputs& inputs,
                       const Buffer<float>& mix, const Buffer<float>& gram,
                       int64_t rows, int64_t rank, int64_t cols,
                       float* a) override {
    // One expert at a time has memory of the device.
    const std::lock_guard<std::mutex> turn(solving_);
    Run([&] {
      torch::SolveForOutputs(machine_, outputs, inputs, mix, gram, rows, rank,
                             cols, a);
    });
  }

  FitMemory Memory(const FitShape& shape) const override {
    const MemoryPlan plan = Plan(shape);
    // Weights, and what stays here of the target; bases and A at the end.
    int64_t host = TargetBytes(shape) + 4 * shape.rank *
                                            (shape.num_bases * shape.cols +
                                             shape.experts * shape.rows);
    if (plan.target_on_host) host += TargetBytes(shape);
    if (!IsCard()) host += plan.bytes;
    return {.host = host, .device = plan.bytes};
  }

  // What MOBE_DEVICE_BYTES leaves of it, for who shares a card, and for tests.
  int64_t FreeBytes() const override {
    int64_t free = std::numeric_limits<int64_t>::max();
    if (IsCard()) {
      // What PyTorch keeps of freed tensors, it takes again.
      const auto stats = Statistics();
      free = static_cast<int64_t>(MemoryInfo().first) +
             stats.reserved_bytes[0].current - stats.allocated_bytes[0].current;
    }
    const char* limit = std::getenv("MOBE_DEVICE_BYTES");
    if (limit == nullptr) return free;
    return std::min<int64_t>(free, std::strtoll(limit, nullptr, 10));
  }

  int64_t PeakBytes() const override {
    if (!IsCard()) return cpu_bytes_->most();
    return Statistics().allocated_bytes[0].peak;
  }

  int64_t workers() const override {
    // A card stands for as many cores as make a probe of a second.
    constexpr int64_t kCores = 1000;
    return IsCard() ? kCores : threads_;
  }
  int64_t jobs() const override { return 2; }

  double MeasurePeak() override {
    return Guarded(name_, [&] {
      return ProductSpeed(machine_.device,
                          machine_.has_half ? at::kBFloat16 : at::kFloat,
                          IsCard() ? 8192 : 1024);
    });
  }

 private:
  // On a card more experts at a time keep it busy; on processors fewer stay in
  // their cache.
  static constexpr int64_t kCardWork = int64_t{4} << 30;
  static constexpr int64_t kCpuWork = int64_t{256} << 20;

  bool IsCard() const { return machine_.device.is_cuda(); }

  // Whose first numbers are of all pools.
  c10::CachingDeviceAllocator::DeviceStats Statistics() const {
    return c10::getDeviceAllocator(machine_.device.type())
        ->getDeviceStats(machine_.device.index());
  }

  std::pair<size_t, size_t> MemoryInfo() const {  // free, and all
    return c10::getDeviceAllocator(machine_.device.type())
        ->getMemoryInfo(machine_.device.index());
  }

  MemoryPlan Plan(const FitShape& shape) const {
    const bool weighed = shape.pairs > 0;
    return PlanMemory(shape, machine_.has_half,
                      /*resident=*/IsCard() || weighed, FreeBytes(),
                      IsCard() ? kCardWork : kCpuWork);
  }

  const std::string name_;
  std::string kind_;
  const int threads_;
  Machine machine_;
  std::mutex solving_;
  std::shared_ptr<CpuBytes> cpu_bytes_;
};

int CountCards() { return static_cast<int>(at::getNumGPUs()); }

FitDevice* Open(int card, const char* model, int threads) {
  return Guarded("PyTorch", [&]() -> FitDevice* {
    return new Device(card, model, threads);  // for ever
  });
}

constexpr TorchModule kModule = {TORCH_VERSION, CountCards, Open};

}  // namespace
}  // namespace mobe::torch

extern "C" __attribute__((visibility("default"))) const mobe::TorchModule*
mobe_torch_module() {
  return &mobe::torch::kModule;
}
