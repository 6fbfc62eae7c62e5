// Products of tokens with a matrix in bfloat16, by AVX-512 BF16: a token in
// each lane, or of few tokens a row of the matrix.
//
//   y[t, r] = sum_c w[r, c] x[t, c]
//
// A pair of weights, the same for all lanes, meets a pair of inputs of each
// token, which vdpbf16ps adds to the tokens' sums. So the matrix is read as it
// is stored, and only the inputs have to be packed, once for all matrices that
// read them. oneDNN packs the matrix for every call instead: of [64, 2048] that
// is not in a cache it did 193, 274 and 477 GFLOP/s for 16, 32 and 512 tokens,
// and this does 346, 517 and 512 (one thread, Zen 5, oneDNN 2.6).
//
// With up to kFewTokens there is a row in each lane instead: weights are
// transposed on their way, which takes fewer instructions than reading them
// takes time, and meet a token's pair, the same for all lanes.
//
// Either way a token's sums are over the pairs in their order, and so the same
// to the bit, whoever shares the call.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace mobe {

inline constexpr int64_t kLaneTokens = 16;
inline constexpr int64_t kFewTokens = 8;

// Whether this CPU has AVX-512 BF16, and the kernels in use (kernels.h) are of
// AVX-512, too: who forces others means all of them. Nothing else here runs
// without.
bool HasTokenLanes();

// Tokens packed for a product: their inputs rounded to bfloat16, and what is
// missing zero. Few: [tokens, pairs of inputs, 2]; else in blocks of
// kLaneTokens, [blocks, pairs of inputs, kLaneTokens, 2].
struct TokenLanes {
  int64_t tokens = 0;
  int64_t inputs = 0;
  BFloat16* values = nullptr;  // the caller's, `size`

  bool few() const { return tokens <= kFewTokens; }
  int64_t blocks() const { return (tokens + kLaneTokens - 1) / kLaneTokens; }
  int64_t pairs() const { return (inputs + 1) / 2; }
  int64_t block_size() const { return pairs() * 2 * kLaneTokens; }
  int64_t size() const {
    return few() ? tokens * pairs() * 2 : blocks() * block_size();
  }
  // Packs a block of x [tokens, inputs].
  void Pack(const float* x, int64_t block) const;
};

// Writes y[t, r] for all tokens and `rows` rows of w, [rows, inputs]; rows of y
// are y_stride apart.
void MultiplyTokenLanes(const BFloat16* w, int64_t rows, const TokenLanes& x,
                        float* y, int64_t y_stride);

}  // namespace mobe
