// Attention, of the kind that the model has.
#pragma once

#include <cstdint>

#include "model/kv_cache.h"
#include "model/rope.h"
#include "model/weights.h"

namespace mobe {

// Memory between the steps, reused from call to call.
struct AttentionScratch {
  Buffer<float> query;    // [tokens, heads, head_dim]
  Buffer<float> context;  // [tokens, heads, value_dim]
  // Grouped-query attention.
  Buffer<float> key, value;  // [tokens, kv_heads, head_dim]
  // Latent attention. What lies by heads has the shape [heads, tokens, ...].
  Buffer<float> query_down;      // [tokens, query_rank]
  Buffer<float> latent;          // [tokens, kv_rank + rope.dim]
  Buffer<float> nope;            // by heads, nope: queries, scaled
  Buffer<float> rotated;         // by heads, rope.dim: queries, scaled
  Buffer<float> latent_query;    // by heads, kv_rank
  Buffer<float> latent_context;  // by heads, kv_rank
  Buffer<float> head_context;    // by heads, value_dim
  std::vector<LinearJob> jobs;
};

// y = the attention of x [tokens, hidden] (already normed), y the same shape.
// The tokens follow those that the cache holds; what the cache keeps of them is
// written behind those, but the cache's length stays. Row t of `rope` belongs
// to token t. Sums are in float32; the products of x and of the result with
// weights follow `precision`.
void Attend(const ModelConfig& config, const AttentionWeights& weights,
            const RopeTable& rope, Precision precision, int64_t layer,
            const float* x, int64_t tokens, KvCache* cache,
            AttentionScratch* scratch, float* y);

namespace internal {

// Up to s->context, without the output's product.

// Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245), with an RMS
// norm on each query and key head where the model has one (Qwen3).
void AttendGrouped(const ModelConfig& config, const AttentionWeights& weights,
                   const RopeTable& rope, Precision precision, int64_t layer,
                   const float* x, int64_t tokens, KvCache* cache,
                   AttentionScratch* s);

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).
void AttendLatent(const ModelConfig& config, const AttentionWeights& weights,
                  const RopeTable& rope, Precision precision, int64_t layer,
                  const float* x, int64_t tokens, KvCache* cache,
                  AttentionScratch* s);

}  // namespace internal

}  // namespace mobe
