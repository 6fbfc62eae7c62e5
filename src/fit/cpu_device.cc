// The fast solver on this process' processors: float32, and bfloat16 products
// with float32 sums where the processor has them. Results don't depend on the
// number of threads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/memory.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "fit/device.h"
#include "fit/metric.h"
#include "fit/output_solve.h"
#include "fit/pass.h"
#include "fit/project.h"
#include "fit/weighted_solve.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"

namespace mobe {
namespace internal {
namespace {

constexpr int64_t kStateGrain = 1 << 16;  // numbers that one task takes

class CpuState : public FitState {
 public:
  CpuState(const FitTarget& target, const FitOptions& options)
      : target_(target),
        fastest_(FastestOf(target, options)),
        pass_of_(target, options),
        metric_(target, options, fastest_, pass_of_.root()),
        low_rank_(target, options) {
    factors_.num_bases = options.num_bases;
    factors_.rank = options.rank;
    factors_.activation = options.activation;
    factors_.bases =
        GroupedSpaces(target, options.num_bases, options.rank, options.seed);
    gradient_.Resize(factors_.bases.size());
    velocity_.Resize(factors_.bases.size());
    std::fill(velocity_.begin(), velocity_.end(), 0.0f);
  }

  double Differentiate(int64_t pass, bool exact, const Buffer<float>& alpha,
                       Buffer<float>* d_alpha) override {
    metric_.Begin(pass);
    factors_.alpha.CopyFrom(alpha);
    return pass_of_.Differentiate(exact ? Precision::kFloat32 : fastest_,
                                  factors_, gradient_.data(), d_alpha->data(),
                                  &metric_);
  }

  double Measure(const Buffer<float>& alpha) override {
    factors_.alpha.CopyFrom(alpha);
    return pass_of_.Measure(Precision::kFloat32, factors_);
  }

  void Step(const Buffer<float>& alpha, double step, double momentum) override {
    metric_.End();
    low_rank_.Tangent(&gradient_);
    metric_.Apply(alpha, &gradient_);
    // The velocity is of directions, not of gradients: bases grow a lot at
    // first, and old gradients would be too long for the metric of today.
    const auto add = static_cast<float>(1 - momentum);
    Each([&](int64_t begin, int64_t count) {
      float* v = velocity_.data() + begin;
      float* b = factors_.bases.data() + begin;
      for (int64_t i = 0; i < count; ++i) {
        v[i] += add * (gradient_[begin + i] - v[i]);
      }
      Kernels().subtract(b, static_cast<float>(step), v, count, b);
    });
  }

  void FixScale(double wanted) override {
    Buffer<float>& bases = factors_.bases;
    std::vector<double> squares(
        static_cast<size_t>((bases.size() + kStateGrain - 1) / kStateGrain));
    Each([&](int64_t begin, int64_t count) {
      double sum = 0;
      for (int64_t i = begin; i < begin + count; ++i) {
        sum += static_cast<double>(bases[i]) * bases[i];
      }
      squares[static_cast<size_t>(begin / kStateGrain)] = sum;
    });
    double square = 0;
    for (const double sum : squares) square += sum;
    const double root = std::sqrt(square / static_cast<double>(bases.size()));
    if (!(root > 0) || !std::isfinite(root)) return;
    const auto factor = static_cast<float>(wanted / root);
    Each([&](int64_t begin, int64_t count) {
      for (int64_t i = begin; i < begin + count; ++i) {
        bases[i] *= factor;
        velocity_[i] *= factor;
      }
    });
  }

  void Narrow(int64_t basis_rank) override {
    low_rank_.Narrow(basis_rank, factors_.bases);
  }
  void Retract() override { low_rank_.Retract(&factors_.bases); }

  void Save() override {
    // As bfloat16: it is half the memory, and they end as that.
    best_.Resize(factors_.bases.size());
    Each([&](int64_t begin, int64_t count) {
      Kernels().to_bfloat16(factors_.bases.data() + begin, count,
                            best_.data() + begin);
    });
  }
  void Restore() override {
    Each([&](int64_t begin, int64_t count) {
      Kernels().from_bfloat16(best_.data() + begin, count,
                              factors_.bases.data() + begin);
    });
    std::fill(velocity_.begin(), velocity_.end(), 0.0f);
  }

  std::vector<double> Gram() override {
    return GramOfBases(factors_.bases, factors_.num_bases);
  }
  Buffer<float> Bases() override { return std::move(factors_.bases); }

 private:
  template <class Body>
  void Each(const Body& body) const {
    ParallelRanges(
        factors_.bases.size(), kStateGrain,
        [&](int64_t begin, int64_t end) { body(begin, end - begin); });
  }

  const FitTarget& target_;
  const Precision fastest_;
  Factors factors_;  // bases, and the alpha of the pass
  FitPass pass_of_;
  FitMetric metric_;
  LowRankBases low_rank_;
  Buffer<float> gradient_;
  Buffer<float> velocity_;
  Buffer<BFloat16> best_;
};

int64_t CpuFitBytes(const FitShape& s) {
  const int64_t target = s.rows * s.cols;
  const int64_t basis = s.rank * s.cols;
  const int64_t ranks = s.rank * s.rank;
  const int64_t square = s.cols * s.cols;
  const int64_t threads = Threads();
  // During passes: the mix of a chunk; bases, gradient, velocity, and the best
  // bases in bfloat16; low-rank ones' factors. After them: bases and A.
  const int64_t passes = 4 * ChunkOf(s.experts) * basis +
                         14 * s.num_bases * basis +
                         4 * s.num_bases * s.basis_rank * (s.rank + s.cols);
  // A thread then holds what its expert reads and puts out on its tokens.
  const int64_t tokens = std::min(s.pairs, kMostOutputTokens);
  const int64_t end = 4 * (s.num_bases * basis + s.experts * s.rows * s.rank +
                           threads * tokens * (s.rank + 4 * s.rows));
  // Before them: bases, and a thread's sketch of a group with its Gram matrix.
  const int64_t height = (s.experts + s.num_bases - 1) / s.num_bases * s.rows;
  const int64_t start =
      4 * s.num_bases * basis +
      4 * std::min(s.num_bases, threads) * (s.rank * height + ranks);
  int64_t bytes = 4 * s.experts * target + std::max({start, passes, end});
  // The metric: experts seen, the factor of columns.
  bytes += kLook * (2 * basis + 4 * ranks) + 18 * square;
  // What one thread works on (FitPass::Scratch).
  bytes += threads * (10 * basis + 6 * target + 6 * s.rank * s.rows);
  if (s.pairs > 0) {
    // The weighed target; the layer's moment, its root, H P H^T, and three
    // matrices of that size in each thread.
    bytes += 4 * s.experts * target + 4 * square * (5 + 3 * threads);
  }
  return bytes;
}

class CpuDevice : public FitDevice {
 public:
  const std::string& name() const override { return name_; }
  const std::string& kind() const override { return name_; }

  std::unique_ptr<FitState> Begin(const FitTarget& target,
                                  const FitOptions& options) override {
    return std::make_unique<CpuState>(target, options);
  }

  void SolveA(const FitTarget& target, Factors* factors) override {
    if (target.moment.size() > 0) {
      SolveWeightedA(target, factors);
    } else {
      internal::SolveA(target, factors);
    }
  }

  void SolveForOutputs(const ExpertOutputs& outputs, const RoutedInputs& inputs,
                       const Buffer<float>& mix, const Buffer<float>& gram,
                       int64_t rows, int64_t rank, int64_t cols,
                       float* a) override {
    mobe::SolveForOutputs(outputs, inputs, mix, gram, rows, rank, cols, a);
  }

  FitMemory Memory(const FitShape& shape) const override {
    return {.host = CpuFitBytes(shape)};
  }
  int64_t PeakBytes() const override { return PeakResidentBytes(); }
  int64_t FreeBytes() const override {  // base/limits.h tells of the process'
    return std::numeric_limits<int64_t>::max();
  }
  double MeasurePeak() override;
  int64_t workers() const override { return Threads(); }
  int64_t jobs() const override { return 1; }

 private:
  const std::string name_ = "cpu";
};

// Every thread at its own.
double CpuDevice::MeasurePeak() {
  constexpr int64_t kSize = 1024;
  constexpr int64_t kEach = 20;
  Buffer<BFloat16> a(kSize * kSize);
  std::fill(a.begin(), a.end(), ToBFloat16(0.5f));
  std::vector<Buffer<float>> c(static_cast<size_t>(Threads()));
  for (auto& each : c) each.Resize(kSize * kSize);
  double best = 0;
  for (int turn = 0; turn < 5; ++turn) {
    const double start = MonotonicSeconds();
    ParallelFor(Threads(), [&](int64_t t) {
      for (int64_t i = 0; i < kEach; ++i) {
        GemmBFloat16(Trans::kNo, Trans::kNo, kSize, kSize, kSize, a.data(),
                     kSize, a.data(), kSize, c[static_cast<size_t>(t)].data(),
                     kSize);
      }
    });
    const double count = 2.0 * kSize * kSize * kSize * kEach * Threads();
    best = std::max(best, count / (MonotonicSeconds() - start));
  }
  return best;
}

}  // namespace
}  // namespace internal

FitDevice& TheCpu() {
  static internal::CpuDevice device;
  return device;
}

}  // namespace mobe
