// Products with matrices that exist only as a mix of bases.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/kernels.h"

namespace mobe {

// u = N x for N = f(sum_i alpha[i] B_i) [rank, cols]: x [tokens, cols], u
// [tokens, rank], without gaps.
struct MixJob {
  const float* alpha = nullptr;
  const float* x = nullptr;
  int64_t tokens = 0;
  float* u = nullptr;
};

// Runs the jobs of experts that share the bases, in float32. Parallel over the
// rows of N: a thread takes the same few rows of all bases through every job,
// so that they come from memory once and from its cache for the other experts.
void MixBatch(const BasesView& bases, Activation f,
              std::span<const MixJob> jobs);

}  // namespace mobe
