// Mixes of bases in 8 bits (tensor/packed_bases.h) by integer dot products.
//
// For each row, group of columns and expert, the products of alphas and scales
// are rounded to 15 bits with a common scale, so that a mix of codes is an
// exact integer:
//
//   v_i = rint(alpha_i scale_i / t), t = max_i |alpha_i scale_i| / kMostAlpha
//   N[r, c] = f(t sum_i v_i (code[r, c, i] - kCodeMiddle))
//
// No sum overflows 32 bits for kMostPackedBases bases or fewer: 1024 * 127 *
// 16256 < 2^31. v is 128 high + low, two signed bytes, high at most 127 and at
// least -127, which two instructions of VNNI multiply.
//
// A product with x, u[r] = sum_c N[r, c] x[c], has kMixLanes sums, of the
// columns that are equal modulo kMixLanes, by fused multiply-adds in their
// order, which are then added in halves. f is a fixed sequence of additions,
// multiplications, fused multiply-adds and one division
// (packed_mix_internal.h). All sets do these same operations: their results are
// equal to the bit, whatever the set, the experts and tokens that share a call,
// and the threads.
//
// The sets are written in intrinsics, a file each, as those of kernels/dot.h,
// and are chosen as they are. `scalar` is the specification.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "tensor/packed_bases.h"

namespace mobe {

inline constexpr int64_t kMixLanes = 64;
inline constexpr float kMostAlpha = 127 * 128;

// One expert's share of a product: u = N x for N = f(sum_i alpha[i] B_i) [rank,
// cols]: x [tokens, cols], u [tokens, rank], without gaps. Transposed, u = N^T
// x: x [tokens, rank], u [tokens, cols].
struct MixJob {
  const float* alpha = nullptr;
  const float* x = nullptr;
  int64_t tokens = 0;
  float* u = nullptr;
};

// The alphas of a row and group, rounded.
struct RoundedAlphas {
  float scale = 0;     // t; NaN where an alpha or scale is not finite
  int32_t middle = 0;  // -kCodeMiddle sum_i v_i
  // Two words for each quad of bases, as the set's `mix` wants them.
  alignas(64) int32_t words[kMostPackedBases / kQuad * 2];
};

// What differs between instruction sets.
struct PackedMixSet {
  const char* name;
  // Bytes that `prepare` makes of a code; 0: mix reads codes in place, and
  // there is no prepare.
  int64_t prepared_bytes;
  void (*prepare)(const uint8_t* codes, int64_t count, void* prepared);
  // Rounds alpha[i] * scales[i] for i < count, a multiple of 16; where alpha is
  // zero, whatever the scale.
  void (*round)(const float* alpha, const float* scales, int64_t count,
                RoundedAlphas* rounded);
  // n [16 blocks] = the mix of adjacent blocks of columns, of `quads` quads of
  // bases each; `used` of them, listed in used_quads, count, and the others'
  // alphas are zero.
  void (*mix)(const void* codes, int64_t quads, const RoundedAlphas& alphas,
              const int32_t* used_quads, int64_t used, int64_t blocks,
              Activation f, float* n);
  // sums[c % kMixLanes] += n[c] x[c] for c < count.
  void (*multiply)(const float* n, const float* x, int64_t count, float* sums);
};

// The set in use.
const PackedMixSet& PackedMix();
// Those that this CPU can run, best first, "scalar" last.
const std::vector<PackedMixSet>& SupportedPackedMixes();

// u of every job for the rows [first, first + rows) of N. A tile of all bases
// is applied by every job before the next is read.
void MultiplyPackedMix(const PackedMixSet& set, const PackedBases& bases,
                       Activation f, std::span<const MixJob> jobs,
                       int64_t first, int64_t rows);

// out [rows, cols] = N of an expert, rows [row, row + rows) and columns [col,
// col + cols), which start at a multiple of kBasesGroup. Bases whose alpha is
// zero are not read.
void StorePackedMix(const PackedMixSet& set, const PackedBases& bases,
                    const float* alpha, Activation f, int64_t row, int64_t rows,
                    int64_t col, int64_t cols, float* out);

}  // namespace mobe
