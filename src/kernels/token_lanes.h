// Products of tokens with a matrix in bfloat16, by AVX-512 BF16 or AMX.
//
//   y[t, r] = sum_c w[r, c] x[t, c]
//
// A pair of weights meets a pair of inputs of each token, side by side in the
// lanes of a vector or the columns of a tile. So the matrix is read as it is
// stored, and only the inputs have to be packed, once for all matrices that
// read them; oneDNN packs the matrix for every call instead.
//
// A token's sums are over the pairs in an order that depends on the set alone:
// so they are the same to the bit, whoever shares the call. Sets differ from
// each other in their last bits.
//
// Which one runs is the best that the CPU has; MOBE_BF16_KERNELS=name chooses
// another. They run beside the AVX-512 kernels of kernels.h alone: who forces
// others with MOBE_KERNELS means all of them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"

namespace mobe {

inline constexpr int64_t kLaneTokens = 16;
inline constexpr int64_t kFewTokens = 8;

// Tokens packed for a product: their inputs rounded to bfloat16, in blocks of
// kLaneTokens, [blocks, pairs of inputs, lanes, 2]. What is missing is zero.
struct TokenLanes {
  int64_t tokens = 0;
  int64_t inputs = 0;
  BFloat16* values = nullptr;  // the caller's, `size`

  int64_t blocks() const { return (tokens + kLaneTokens - 1) / kLaneTokens; }
  // Few tokens have no more lanes than they are.
  bool few() const { return tokens <= kFewTokens; }
  int64_t lanes() const { return few() ? tokens : kLaneTokens; }
  // As many as whole steps of AMX have, which are 16.
  int64_t pairs() const { return (inputs + 31) / 32 * 16; }
  int64_t block_size() const { return pairs() * lanes() * 2; }
  int64_t size() const { return blocks() * block_size(); }
  const BFloat16* Block(int64_t block) const {
    return values + block * block_size();
  }

  // Packs a block of x [tokens, inputs].
  void Pack(const float* x, int64_t block) const;
};

struct LaneKernels {
  const char* name;
  // Writes y[t, r] for all tokens and `rows` rows of w, [rows, inputs]; rows of
  // y are y_stride apart.
  void (*multiply)(const BFloat16* w, int64_t rows, const TokenLanes& x,
                   float* y, int64_t y_stride);
};

// The set in use, and those that this CPU can run, best first. The last one,
// "float32", has no product: who asks for it multiplies in float32.
const LaneKernels& Lanes();
const std::vector<LaneKernels>& SupportedLanes();
inline bool HasLanes() { return Lanes().multiply != nullptr; }

}  // namespace mobe
