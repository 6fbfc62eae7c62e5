// One matrix kind of the width of a real model, random weights: seconds a pass
// of the fast solver, operations a second and their share of the machine's
// measured peak of bfloat16 products, and the memory against the target's
// float32 bytes.
//
//   fit_width [experts rows cols bases passes]       (128 768 2048 32 3)
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <vector>

#include "base/memory.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "fit/budget.h"
#include "fit/fit.h"
#include "fit/solver.h"
#include "kernels/gemm.h"

namespace mobe {
namespace {

// Operations a second of large products, every thread at its own.
double PeakOperations() {
  constexpr int64_t kSize = 1024;
  Buffer<BFloat16> a(kSize * kSize);
  std::fill(a.begin(), a.end(), ToBFloat16(0.5f));
  std::vector<Buffer<float>> c(static_cast<size_t>(Threads()));
  for (auto& each : c) each.Resize(kSize * kSize);
  double best = 0;
  for (int turn = 0; turn < 5; ++turn) {
    constexpr int64_t kEach = 20;
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

void Run(const FitShape& shape, int64_t passes) {
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
  const double peak = PeakOperations();
  FitOptions options;
  options.num_bases = shape.num_bases;
  options.rank = shape.rank;
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
  fmt::print(
      "{} experts of {} x {}, {} bases, {} threads\n"
      "start {:.1f} s, a pass {:.2f} s\n"
      "{:.0f} GFLOP/s, {:.0f}% of {:.0f} (bfloat16 products of 1024)\n"
      "peak memory {:.2f} GB, {:.2f} times the target in float32\n",
      shape.experts, shape.rows, shape.cols, shape.num_bases, Threads(),
      times.front() - start - each, each, operations / 1e9,
      100 * operations / peak, peak / 1e9,
      static_cast<double>(PeakResidentBytes()) / 1e9,
      static_cast<double>(PeakResidentBytes()) / target_bytes);
}

}  // namespace
}  // namespace mobe

// What is thrown ends it. NOLINTNEXTLINE(bugprone-exception-escape)
int main(int argc, char** argv) {
  const auto number = [&](int i, int64_t otherwise) {
    return argc > i ? std::max<int64_t>(std::atoll(argv[i]), 1) : otherwise;
  };
  mobe::SetThreads(0);
  const int64_t rows = number(2, 768);
  mobe::Run({number(1, 128), rows, number(3, 2048), rows, number(4, 32)},
            number(5, 3));
}
