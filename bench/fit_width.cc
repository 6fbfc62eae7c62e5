// One matrix kind of the width of a real model, random weights: seconds a pass
// of the fast solver, operations a second and their share of the machine's
// measured peak of bfloat16 products, and the memory against the target's
// float32 bytes.
//
//   fit_width [experts rows cols bases passes device]   (128 768 2048 32 3 cpu)
//
// device: as --device of mobe compress, or torch-cpu.
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/memory.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "fit/devices.h"
#include "fit/fit.h"
#include "fit/method.h"

namespace mobe {
namespace {

// A state of the device, and what each part of a pass takes.
class TimedState : public FitState {
 public:
  struct Seconds {
    double differentiate = 0;
    double step = 0;
  };
  TimedState(std::unique_ptr<FitState> state, Seconds* seconds)
      : state_(std::move(state)), seconds_(seconds) {}

  double Differentiate(int64_t pass, bool exact, const Buffer<float>& alpha,
                       Buffer<float>* d_alpha) override {
    const double start = MonotonicSeconds();
    const double loss = state_->Differentiate(pass, exact, alpha, d_alpha);
    // The first pass brings in code and memory.
    if (pass > 1) seconds_->differentiate += MonotonicSeconds() - start;
    last_ = pass;
    return loss;
  }
  void Step(const Buffer<float>& alpha, double step, double momentum) override {
    start_ = MonotonicSeconds();
    state_->Step(alpha, step, momentum);
  }
  void FixScale(double root) override {  // waits for the step
    state_->FixScale(root);
    if (last_ > 1) seconds_->step += MonotonicSeconds() - start_;
  }
  double Measure(const Buffer<float>& alpha) override {
    return state_->Measure(alpha);
  }
  void Narrow(int64_t rank) override { state_->Narrow(rank); }
  void Retract() override { state_->Retract(); }
  void Save() override { state_->Save(); }
  void Restore() override { state_->Restore(); }
  std::vector<double> Gram() override { return state_->Gram(); }
  Buffer<float> Bases() override { return state_->Bases(); }

 private:
  const std::unique_ptr<FitState> state_;
  Seconds* const seconds_;
  int64_t last_ = 0;
  double start_ = 0;
};

class TimedDevice : public FitDevice {
 public:
  explicit TimedDevice(FitDevice* device) : device_(device) {}
  const std::string& name() const override { return device_->name(); }
  const std::string& kind() const override { return device_->kind(); }
  void Run(const std::function<void()>& work) override { device_->Run(work); }
  std::unique_ptr<FitState> Begin(const FitTarget& target,
                                  const FitOptions& options) override {
    return std::make_unique<TimedState>(device_->Begin(target, options),
                                        &seconds);
  }
  void SolveA(const FitTarget& target, Factors* factors) override {
    device_->SolveA(target, factors);
  }
  void SolveForOutputs(const ExpertOutputs& outputs, const RoutedInputs& inputs,
                       const Buffer<float>& mix, const Buffer<float>& gram,
                       int64_t rows, int64_t rank, int64_t cols,
                       float* a) override {
    device_->SolveForOutputs(outputs, inputs, mix, gram, rows, rank, cols, a);
  }
  FitMemory Memory(const FitShape& shape) const override {
    return device_->Memory(shape);
  }
  int64_t PeakBytes() const override { return device_->PeakBytes(); }
  int64_t FreeBytes() const override { return device_->FreeBytes(); }
  double MeasurePeak() override { return device_->MeasurePeak(); }
  int64_t workers() const override { return device_->workers(); }
  int64_t jobs() const override { return device_->jobs(); }

  TimedState::Seconds seconds;

 private:
  FitDevice* const device_;
};

void Run(const FitShape& shape, int64_t passes, FitDevice* on) {
  TimedDevice device(on);
  FitTarget target;
  target.experts = shape.experts;
  target.rows = shape.rows;
  target.cols = shape.cols;
  target.weights.Resize(shape.experts * target.matrix_size());
  ParallelFor(shape.experts, [&](int64_t e) {
    std::mt19937 random(static_cast<uint32_t>(e));
    std::normal_distribution<float> normal(0.0f, 1.0f);
    float* w = target.weights.data() + e * target.matrix_size();
    for (int64_t i = 0; i < target.matrix_size(); ++i) {
      // Numbers that bfloat16 holds, as a checkpoint's are.
      w[i] = ToFloat(ToBFloat16(normal(random)));
    }
  });
  const double peak = device.MeasurePeak();
  FitOptions options;
  options.num_bases = shape.num_bases;
  options.rank = shape.rank;
  options.device = &device;
  // The last ones multiply in float32: more passes than are timed.
  options.passes = 1000;
  struct Done {};
  const double start = MonotonicSeconds();
  std::vector<double> times;
  try {
    Fit(target, options, [&](int64_t pass, int64_t, double) {
      times.push_back(MonotonicSeconds());
      if (pass > passes) throw Done();
    });
  } catch (const Done&) {
  }
  const double each =
      (times.back() - times.front()) / static_cast<double>(times.size() - 1);
  const FitParts parts = kFastSolver.operations(shape);
  const double operations = (parts.pass + parts.look) / each;
  const auto target_bytes = static_cast<double>(target.weights.size() * 4);
  const FitMemory plan = device.Memory(shape);
  const double held = static_cast<double>(device.PeakBytes());
  const auto timed = static_cast<double>(times.size() - 1);
  fmt::print(
      "{} experts of {} x {}, {} bases, {} threads, on {} ({})\n"
      "start {:.1f} s, a pass {:.3f} s: gradient {:.3f} s, step {:.3f} s\n"
      "{:.2f} TFLOP/s, {:.0f}% of {:.2f} (its large products)\n"
      "peak memory {:.2f} GB, {:.2f} times the target in float32; the device "
      "counts {:.2f} GB\n"
      "planned: {:.2f} GB of the process, {:.2f} GB of the device\n",
      shape.experts, shape.rows, shape.cols, shape.num_bases, Threads(),
      device.name(), device.kind(), times.front() - start - each, each,
      device.seconds.differentiate / timed, device.seconds.step / timed,
      operations / 1e12, 100 * operations / peak, peak / 1e12,
      static_cast<double>(PeakResidentBytes()) / 1e9,
      static_cast<double>(PeakResidentBytes()) / target_bytes, held / 1e9,
      static_cast<double>(plan.host) / 1e9,
      static_cast<double>(plan.device) / 1e9);
}

}  // namespace
}  // namespace mobe

int main(int argc, char** argv) {
  const auto number = [&](int i, int64_t otherwise) {
    return argc > i ? std::max<int64_t>(std::atoll(argv[i]), 1) : otherwise;
  };
  try {
    mobe::SetThreads(0);
    const int64_t rows = number(2, 768);
    mobe::Run({number(1, 128), rows, number(3, 2048), rows, number(4, 32)},
              number(5, 3),
              mobe::FindDevices(argc > 6 ? argv[6] : "cpu").front());
  } catch (const std::exception& e) {
    fmt::print(stderr, "fit_width: {}\n", e.what());
    return 1;
  }
}
