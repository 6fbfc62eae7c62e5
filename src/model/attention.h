// Attention, of the kind that the model has.
#pragma once

#include <cstdint>
#include <span>

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

// The tokens of one sequence in a batch: its rows [first, first + count).
struct SequenceRows {
  int64_t first;
  int64_t count;
  KvCache* cache;
};

// y = the attention of x [tokens, hidden] (already normed), y the same shape.
// The rows of `sequences`, each of another cache, are all of x, in order. They
// follow the tokens that their cache holds; what it keeps of them is written
// behind those, but its length stays. Row t of `rope` belongs to row t of x.
// Sums are in float32; the products of x and of the result with weights, which
// all tokens take together, follow `precision`.
void Attend(const ModelConfig& config, const AttentionWeights& weights,
            const RopeTable& rope, Precision precision, int64_t layer,
            const float* x, std::span<const SequenceRows> sequences,
            AttentionScratch* scratch, float* y);

namespace internal {

// What weights make of all tokens' x comes first; then each sequence attends by
// itself, up to its rows of s->context, without the output's product.

// Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245), with an RMS
// norm on each query and key head where the model has one (Qwen3).
void ProjectGrouped(const AttentionWeights& weights, Precision precision,
                    const float* x, int64_t tokens, AttentionScratch* s);
void AttendGrouped(const ModelConfig& config, const AttentionWeights& weights,
                   const RopeTable& rope, Precision precision, int64_t layer,
                   const SequenceRows& rows, AttentionScratch* s);

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).
void ProjectLatent(const AttentionWeights& weights, Precision precision,
                   const float* x, int64_t tokens, AttentionScratch* s);
void AttendLatent(const ModelConfig& config, const AttentionWeights& weights,
                  const RopeTable& rope, Precision precision, int64_t layer,
                  const SequenceRows& rows, AttentionScratch* s);

}  // namespace internal

}  // namespace mobe
