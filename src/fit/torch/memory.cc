#include "fit/torch/memory.h"

#include <algorithm>

#include "fit/fit.h"
#include "fit/output_solve.h"

namespace mobe::torch {
namespace {

// What is there throughout, without the target.
int64_t FixedBytes(const FitShape& s) {
  const int64_t basis = s.rank * s.cols;
  const int64_t square = s.cols * s.cols;
  // Bases, gradient, velocity, and the best bases in bfloat16; low-rank ones'
  // factors.
  int64_t bytes = 14 * s.num_bases * basis +
                  4 * s.num_bases * s.basis_rank * (s.rank + s.cols);
  // The metric: mean and inverse, and what inverting works on; the same of
  // ranks, which are few. An expert that it looks at.
  bytes += 4 * (6 * square + 6 * s.rank * s.rank + 3 * basis);
  if (s.pairs > 0) bytes += 4 * 2 * square;  // H, and H P H^T
  return bytes;
}

// What each expert of a chunk takes.
int64_t ExpertBytes(const FitShape& s, bool has_half) {
  const int64_t basis = s.rank * s.cols;
  const int64_t target = s.rows * s.cols;
  // Mix, Y, then the error; Y Y^T or its factor; A.
  int64_t bytes = 4 * (2 * basis + target + s.rank * s.rank + s.rows * s.rank);
  if (has_half) bytes += 2 * (basis + target);  // both operands of a product
  return bytes;
}

// The end of a calibrated fit, in which one expert at a time is solved for what
// it puts out: what it reads and misses on its tokens, and with each factor.
int64_t OutputBytes(const FitShape& s) {
  const int64_t tokens = std::min(s.pairs, kMostOutputTokens);
  return 4 * (tokens * (2 * s.rank + 4 * s.rows) + 2 * s.rows * s.rows +
              3 * s.rank * s.rank + 4 * s.rows * s.rank + s.rank * s.cols +
              2 * std::min(tokens, kGatherTokens) * s.cols);
}

}  // namespace

MemoryPlan PlanMemory(const FitShape& shape, bool has_half, bool resident,
                      int64_t free, int64_t work) {
  // Fewer experts at a time leave a card idle between its kernels.
  constexpr int64_t kFew = 4;
  const int64_t fixed = FixedBytes(shape);
  const int64_t target = resident ? TargetBytes(shape) : 0;
  int64_t each = ExpertBytes(shape, has_half);
  MemoryPlan plan;
  const int64_t few = std::min(kFew, shape.experts) * each;
  plan.target_on_host = free < fixed + target + few;
  if (plan.target_on_host) each += 4 * shape.rows * shape.cols;
  const int64_t there = fixed + (plan.target_on_host ? 0 : target);
  plan.chunk = std::clamp<int64_t>(std::min(work, free - there) / each, 1,
                                   shape.experts);
  plan.bytes = std::max(there + plan.chunk * each, OutputBytes(shape));
  return plan;
}

}  // namespace mobe::torch
