// Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245) with an RMS
// norm on each query and key head, as in Qwen3.
#pragma once

#include <cstdint>

#include "model/kv_cache.h"
#include "model/norm_rope.h"
#include "model/weights.h"

namespace mobe {

// Memory between the steps, reused from call to call.
struct AttentionScratch {
  Buffer<float> query;       // [tokens, heads, head_dim]
  Buffer<float> key, value;  // [tokens, kv_heads, head_dim]
  Buffer<float> context;     // [tokens, heads, head_dim]
};

// y = the attention of x [tokens, hidden] (already normed), y the same shape.
// The tokens follow those that the cache holds; their keys and values are
// written behind them, but the cache's length stays. Row t of `rope` belongs to
// token t. Sums are in float32 but for the four products with weights, which
// follow `precision`.
void Attend(const ModelConfig& config, const AttentionWeights& weights,
            const RopeTable& rope, Precision precision, int64_t layer,
            const float* x, int64_t tokens, KvCache* cache,
            AttentionScratch* scratch, float* y);

}  // namespace mobe
