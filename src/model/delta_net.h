// Gated delta nets (Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464), as
// Qwen3-Next has them in place of attention: each head keeps a matrix S
// [key_dim, value_dim] in which values are found by keys. A token's key k,
// value v and query q, its share beta of what is written and its share g of
// what is kept give
//
//   S = g S + k (beta (v - (g S)^T k))^T     (equation 10, transposed)
//   o = S^T q
//
// q, k and v are products with x behind a convolution over the last `window`
// tokens, of each number for itself, and silu; q and k have length 1 then, and
// q is divided by sqrt(key_dim). beta = sigmoid(b) and g = exp(-exp(A_log)
// softplus(a + bias)), with b and a products with x. What comes out of a head
// is RmsNorm(o) silu(z), with z a product with x, too. Value heads in a row
// share a key head.
#pragma once

#include <cstdint>
#include <span>

#include "model/batch.h"
#include "model/weights.h"

namespace mobe {

// Memory between the steps, reused from call to call.
struct DeltaScratch {
  // As they come where a model has them by key heads (DeltaWeights::inputs and
  // rates): [tokens, channels + values] and [tokens, 2 value_heads].
  Buffer<float> inputs, rates;
  Buffer<float> mixed;        // [tokens, channels]: queries, keys, values
  Buffer<float> convolved;    // the same shape
  Buffer<float> gate;         // [tokens, values]: z
  Buffer<float> beta, decay;  // [tokens, value_heads]: b and a
};

// Numbers of a state (KvCache::State): what the convolution saw last,
// [window - 1, channels], the oldest token first, and S of each value head.
int64_t StateFloats(const DeltaSizes& sizes);

// context [tokens, values] = what comes out of the heads for x [tokens, hidden]
// (already normed), for the tokens of all sequences as in Attend; their states
// go on by them. In float32, but for products with weights, which follow
// `math`; one token after the other, so that it does not matter in which
// pieces they come.
void RunDeltaNet(const ModelConfig& config, const DeltaWeights& weights,
                 const Arithmetic& math, int64_t layer, const float* x,
                 std::span<const SequenceRows> sequences, DeltaScratch* scratch,
                 float* context);

}  // namespace mobe
