// The devices of PyTorch, and the module's entry.
#include "fit/torch/module.h"

#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <fmt/format.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
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

// Counts what this thread makes while it lives.
class CountBytes {
 public:
  explicit CountBytes(const std::shared_ptr<CpuBytes>& bytes)
      : counts_(bytes != nullptr) {
    if (counts_) c10::ThreadLocalDebugInfo::_push(what_, bytes);
  }
  CountBytes(const CountBytes&) = delete;
  CountBytes& operator=(const CountBytes&) = delete;
  ~CountBytes() {
    if (counts_) c10::ThreadLocalDebugInfo::_pop(what_);
  }

 private:
  const c10::DebugInfoKind what_ = c10::DebugInfoKind::PROFILER_STATE;
  const bool counts_;
};

// Seconds of a product of two such matrices, done `count` times.
double SecondsOf(const Tensor& a, int64_t count) {
  using Clock = std::chrono::steady_clock;
  const bool half = a.scalar_type() == at::kBFloat16;
  const auto multiply = [&] {
    return half ? at::mm(a, a, at::kFloat) : at::mm(a, a);
  };
  multiply()[0][0].item<float>();  // once to begin with; waits
  const auto start = Clock::now();
  Tensor product;
  for (int64_t i = 0; i < count; ++i) product = multiply();
  product[0][0].item<float>();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Whether products of bfloat16 with float32 sums are there, and worth it.
bool HasFastHalf(const at::Device& device) {
  constexpr int64_t kCount = 8;
  const Tensor a = at::ones({2048, 2048}, at::device(device));
  try {
    return SecondsOf(a.to(at::kBFloat16), kCount) < SecondsOf(a, kCount);
  } catch (const c10::Error&) {
    return false;
  }
}

// What the driver calls the cards, if they are all alike; else nothing.
std::string ModelOfCards() {
  std::string model;
  std::error_code none;
  for (const auto& card :
       std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", none)) {
    std::ifstream file(card.path() / "information");
    std::string line;
    std::getline(file, line);  // "Model: \t\t NVIDIA H100 80GB HBM3"
    const size_t name = line.find_first_not_of(" \t", line.find(':') + 1);
    if (name == std::string::npos) return {};
    line.erase(0, name);
    if (!model.empty() && model != line) return {};
    model = line;
  }
  return model;
}

class Device : public FitDevice {
 public:
  explicit Device(int card, int threads)
      : name_(card < 0 ? "torch-cpu" : fmt::format("cuda:{}", card)),
        threads_(threads) {
    if (card < 0) {
      at::set_num_threads(threads);
      cpu_bytes_ = std::make_shared<CpuBytes>();
      kind_ = "PyTorch " TORCH_VERSION;
      return;
    }
    machine_.device = at::Device(at::kCUDA, static_cast<int8_t>(card));
    machine_.has_half = HasFastHalf(machine_.device);
    kind_ = ModelOfCards();
    if (kind_.empty()) {
      kind_ = fmt::format("card of {:.0f} GB",
                          static_cast<double>(MemoryInfo().second) / 1e9);
    }
    kind_ += ", PyTorch " TORCH_VERSION;
  }

  const std::string& name() const override { return name_; }
  const std::string& kind() const override { return kind_; }

  void Run(const std::function<void()>& work) override {
    const CountBytes count(cpu_bytes_);
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
    return std::make_unique<State>(machine, target, options);
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

  void CheckMemory(const FitMemory& memory) const override {
    const int64_t free = FreeBytes();
    if (memory.device <= free) return;
    constexpr double kGb = 1e9;
    Fail(ErrorKind::kOutOfMemory,
         "the fit needs about {:.2f} GB of {} ({}), {:.2f} GB are free; free "
         "it of other programs, or fit with fewer --bases, on a larger card or "
         "with --device cpu",
         static_cast<double>(memory.device) / kGb, name_, kind_,
         static_cast<double>(free) / kGb);
  }

  int64_t PeakBytes() const override {
    if (!IsCard()) return cpu_bytes_->most();
    const auto stats = c10::getDeviceAllocator(machine_.device.type())
                           ->getDeviceStats(machine_.device.index());
    return stats.allocated_bytes[0].peak;  // of all pools
  }

  int64_t workers() const override {
    // A card stands for as many cores as make a probe of a second.
    constexpr int64_t kCores = 1000;
    return IsCard() ? kCores : threads_;
  }
  int64_t jobs() const override { return 2; }

  double MeasurePeak() override {
    return Guarded(name_, [&] {
      const int64_t size = IsCard() ? 8192 : 1024;
      constexpr int64_t kCount = 20;
      const Tensor a =
          at::ones({size, size},
                   at::device(machine_.device)
                       .dtype(machine_.has_half ? at::kBFloat16 : at::kFloat));
      return 2.0 * std::pow(static_cast<double>(size), 3) * kCount /
             SecondsOf(a, kCount);
    });
  }

 private:
  // On a card more experts at a time keep it busy; on processors fewer stay in
  // their cache.
  static constexpr int64_t kCardWork = int64_t{4} << 30;
  static constexpr int64_t kCpuWork = int64_t{512} << 20;

  bool IsCard() const { return machine_.device.is_cuda(); }

  std::pair<size_t, size_t> MemoryInfo() const {  // free, and all
    return c10::getDeviceAllocator(machine_.device.type())
        ->getMemoryInfo(machine_.device.index());
  }

  // What MOBE_DEVICE_BYTES leaves of it, for who shares a card, and for tests.
  int64_t FreeBytes() const {
    int64_t free = std::numeric_limits<int64_t>::max();
    if (IsCard()) free = static_cast<int64_t>(MemoryInfo().first);
    const char* limit = std::getenv("MOBE_DEVICE_BYTES");
    if (limit == nullptr) return free;
    return std::min<int64_t>(free, std::strtoll(limit, nullptr, 10));
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

FitDevice* Open(int card, int threads) {
  return Guarded("PyTorch", [&]() -> FitDevice* {
    return new Device(card, threads);  // for ever
  });
}

constexpr TorchModule kModule = {TORCH_VERSION, CountCards, Open};

}  // namespace
}  // namespace mobe::torch

extern "C" __attribute__((visibility("default"))) const mobe::TorchModule*
mobe_torch_module() {
  return &mobe::torch::kModule;
}
