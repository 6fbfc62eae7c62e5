// The start of the fast solver: spaces that span most of each group of experts,
// by subspace iteration from a random sketch (Halko, Martinsson and Tropp 2011,
// algorithm 4.4, with one iteration). The fit ends as well from here as from
// the groups' SVDs, for the cost of about a pass; those would take hours at
// DeepSeek-V3's width. Without the iteration it ends 1% worse, with more it
// gains nothing (docs/lab/fit.md).
#include "fit/spaces.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/cholesky.h"
#include "fit/diagonal.h"
#include "fit/fit.h"
#include "kernels/gemm.h"

namespace mobe::internal {
namespace {

// Replaces z [rank, cols] by rows of length 1 that span the same, each
// orthogonal to those before it, by the Cholesky factor of z z^T. (A QR
// decomposition is slower, and leaves signs to chance, on which silu depends.)
// Rows for which there is no direction left stay short. Numbers that overflow
// end as NaN, which the first pass will tell.
void Orthonormalise(int64_t rank, int64_t cols, Buffer<float>* gram, float* z) {
  gram->Resize(rank * rank);
  float* g = gram->data();
  for (int round = 0; round < kStartRounds; ++round) {
    Gemm(Trans::kNo, Trans::kYes, rank, rank, cols, z, cols, z, cols, 0.0f, g,
         rank);
    float least = g[0];
    for (int64_t k = 1; k < rank; ++k) least = std::min(least, g[k * rank + k]);
    if (round > 0 && least > kLongEnough) return;
    const double ridge = kStartRidge * Trace(rank, g);
    AddToDiagonal(rank, std::max(static_cast<float>(ridge), 1e-30f), g);
    if (Cholesky(rank, g, rank) >= 0) {
      Fail(ErrorKind::kInternal, "the start of the fit is not definite");
    }
    SolveForward(rank, g, rank, z, cols, cols);
  }
}

}  // namespace

Buffer<float> GroupedSpaces(const FitTarget& target, int64_t num_bases,
                            int64_t rank, uint64_t seed) {
  const int64_t cols = target.cols;
  const auto unit = static_cast<float>(1 / target.scale);
  Buffer<float> bases(num_bases * rank * cols);
  ParallelFor(num_bases, [&](int64_t g) {
    const int64_t first = GroupBegin(g, target.experts, num_bases);
    const int64_t last = GroupBegin(g + 1, target.experts, num_bases);
    const int64_t height = (last - first) * target.rows;
    const float* stacked = target.matrix(first);  // [height, cols]
    Buffer<float> sketch(rank * height);
    Buffer<float> gram;
    float* z = bases.data() + g * rank * cols;
    // z = sketch W; then again with sketch = z W^T, that is z W^T W.
    const auto span = [&] {
      Gemm(Trans::kNo, Trans::kNo, rank, cols, height, sketch.data(), height,
           stacked, cols, 0.0f, z, cols);
      Orthonormalise(rank, cols, &gram, z);
    };
    FillWithSigns(seed, g, unit, &sketch);
    span();
    Gemm(Trans::kNo, Trans::kYes, rank, height, cols, z, cols, stacked, cols,
         0.0f, sketch.data(), height);
    for (float& value : sketch) value *= unit;
    span();
  });
  return bases;
}

}  // namespace mobe::internal
