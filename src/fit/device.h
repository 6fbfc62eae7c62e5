// The seam under the fast solver: its loop (fast.cc) is written once, and this
// is what it asks of the machine that fits. The CPU of this process is one
// (cpu_device.cc); torch/ has those that PyTorch's C++ library reaches.
//
// The seam lies at the level of a pass, not of a product: what is large (the
// target, bases, their gradient and velocity, the metric) stays on the device,
// and alpha [experts, num_bases], which is small, belongs to the loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/matrix.h"
#include "fit/fit.h"
#include "fit/method.h"

namespace mobe {

// One fit in progress: the bases [num_bases, rank, cols] and what moves them.
class FitState {
 public:
  virtual ~FitState() = default;

  // Pass number `pass` (from 1): the mean squared error of W / scale, each
  // expert at its best A, and its gradient, to bases and to alpha. The metric
  // looks at the experts whose turn it is. `exact`: products in float32, else
  // in whatever the device multiplies fastest.
  virtual double Differentiate(int64_t pass, bool exact,
                               const Buffer<float>& alpha,
                               Buffer<float>* d_alpha) = 0;
  // The error alone, in float32.
  virtual double Measure(const Buffer<float>& alpha) = 0;

  // Moves the bases against the last gradient, in the metric:
  //   velocity = momentum velocity + (1 - momentum) H^-1 gradient,
  //   bases -= step velocity.
  // `alpha` is that of the gradient.
  virtual void Step(const Buffer<float>& alpha, double step,
                    double momentum) = 0;
  // Multiplies bases and velocity by what makes `root` of the root of the
  // bases' mean square.
  virtual void FixScale(double root) = 0;

  // From now on the bases are of that rank; Retract brings them into it.
  virtual void Narrow(int64_t basis_rank) = 0;
  virtual void Retract() = 0;

  // Keeps the bases, as bfloat16, and puts these back, at rest.
  virtual void Save() = 0;
  virtual void Restore() = 0;

  // B_i . B_j [num_bases, num_bases], and the bases.
  virtual std::vector<double> Gram() = 0;
  virtual Buffer<float> Bases() = 0;
};

// Memory that a fit takes, in bytes: of the process, and of the device where it
// has its own.
struct FitMemory {
  int64_t host = 0;
  int64_t device = 0;
};

class FitDevice {
 public:
  virtual ~FitDevice() = default;

  // "cpu", "cuda:1"; and what it is, "NVIDIA H100": both decide how sums are
  // rounded, so that a job goes on with the same.
  virtual const std::string& name() const = 0;
  virtual const std::string& kind() const = 0;

  // Calls work(), in which alone states are used: what a library throws there
  // becomes an Error, kOutOfMemory among them.
  virtual void Run(const std::function<void()>& work) { work(); }

  // Target and options outlive the state.
  virtual std::unique_ptr<FitState> Begin(const FitTarget& target,
                                          const FitOptions& options) = 0;
  // The best A for given bases and alpha, in the norm of each expert's inputs
  // where the target has a moment (weighted_solve.h), else in the plain one.
  virtual void SolveA(const FitTarget& target, Factors* factors) = 0;
  // One expert's A for what it puts out, as output_solve.h says. Calls from
  // several threads take turns where it has memory of its own.
  virtual void SolveForOutputs(const ExpertOutputs& outputs,
                               const RoutedInputs& inputs,
                               const Buffer<float>& mix,
                               const Buffer<float>& gram, int64_t rows,
                               int64_t rank, int64_t cols, float* a) = 0;

  // The most of one fit at a time.
  virtual FitMemory Memory(const FitShape& shape) const = 0;
  // The most that the device has held so far, as it counts.
  virtual int64_t PeakBytes() const = 0;
  // What is free of its own memory; where it has none, more than there can be.
  virtual int64_t FreeBytes() const = 0;
  // Operations a second of its fastest large products.
  virtual double MeasurePeak() = 0;
  // Cores that work side by side in it, or as many as would be as fast: what a
  // probe of its speed takes depends on it.
  virtual int64_t workers() const = 0;

  // Jobs that it takes at a time: where it is not the processor that reads and
  // rounds, one is fitted while another is read or written.
  virtual int64_t jobs() const = 0;
  // Held during a fit.
  std::mutex& turn() { return turn_; }

 private:
  std::mutex turn_;
};

// This process' processors.
FitDevice& TheCpu();
inline FitDevice& DeviceOf(const FitOptions& options) {
  return options.device == nullptr ? TheCpu() : *options.device;
}

}  // namespace mobe
