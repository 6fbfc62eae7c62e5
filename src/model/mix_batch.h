// Products with matrices that exist only as a mix of bases.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/kernels.h"

namespace mobe {

// The bases of one layer and kind as they are stored: whole, or as products
// B_i = U_i V_i.
struct StoredBases {
  BasesView whole;  // [m, rank, cols]; without data when they are products
  BasesView left, right;  // U [m, rank, k] and V [m, k, cols]

  bool AreProducts() const { return whole.data == nullptr; }
  int64_t bytes() const;
};

// u = N x for N = f(sum_i alpha[i] B_i) [rank, cols]: x [tokens, cols], u
// [tokens, rank], without gaps. Transposed, u = N^T x: x [tokens, rank], u
// [tokens, cols].
struct MixJob {
  const float* alpha = nullptr;
  const float* x = nullptr;
  int64_t tokens = 0;
  float* u = nullptr;
};

// Runs the jobs of experts that share the bases, in float32. Parallel over the
// rows of N: a thread takes the same few rows of all bases through every job,
// so that they come from memory once and from its cache for the other experts.
// Rows of low-rank bases are multiplied out once for all jobs. Bases whose
// alpha is zero cost nothing.
void MixBatch(const StoredBases& bases, Activation f,
              std::span<const MixJob> jobs);
// The transposed product; parallel over the columns of N.
void MixBatchTransposed(const StoredBases& bases, Activation f,
                        std::span<const MixJob> jobs);

// Multiplies low-rank bases out: product [m, rank, cols].
void ExpandBases(const StoredBases& bases, float* product);

}  // namespace mobe
