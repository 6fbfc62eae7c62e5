// Attention, of the kind that the layer has, or what stands in its place.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/linear.h"
#include "model/delta_net.h"
#include "model/kv_cache.h"
#include "model/rope.h"
#include "model/weights.h"

namespace mobe {

// Memory between the steps, reused from call to call.
struct AttentionScratch {
  Buffer<float> query;    // [tokens, heads, head_dim]
  Buffer<float> context;  // [tokens, heads, value_dim]
  Buffer<float> sums;     // AttentionSums of every piece of work
  // Grouped-query attention.
  Buffer<float> key, value;  // [tokens, kv_heads, head_dim]
  // With gates: [tokens, heads, 2 head_dim] and [tokens, heads, head_dim].
  Buffer<float> gated_query, gate;
  DeltaScratch delta;
  // Latent attention. What lies by heads has the shape [heads, tokens, ...].
  // The latent_ ones are of those tokens only that take the absorbed form.
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
// The rows of `sequences`, each of another cache, are all of x, in order. They
// follow the tokens that their cache holds; what it keeps of them is written
// behind those, but its length stays. Row t of `rope` belongs to row t of x.
// Sums are in float32; the products of x and of the result with weights, which
// all tokens take together, follow `math`. Fails as KvCache::Reserve does.
void Attend(const ModelConfig& config, const AttentionWeights& weights,
            const RopeTable& rope, const Arithmetic& math, int64_t layer,
            const float* x, std::span<const SequenceRows> sequences,
            AttentionScratch* scratch, float* y);

namespace internal {

// Up to s->context, without the output's product. Caches have reserved places.

// Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245), with an RMS
// norm on each query and key head where the model has one (Qwen3), and gates
// where it has some.
void AttendGrouped(const ModelConfig& config, const AttentionWeights& weights,
                   const RopeTable& rope, const Arithmetic& math, int64_t layer,
                   const float* x, std::span<const SequenceRows> sequences,
                   AttentionScratch* s);

// s->query and s->gate = what lies together in s->gated_query.
void SplitGates(const ModelConfig& config, int64_t tokens, AttentionScratch* s);
// s->context [count] *= sigmoid(s->gate): gated attention (Qiu et al. 2025,
// arXiv 2505.06708).
void ApplyGates(int64_t count, AttentionScratch* s);

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).
void AttendLatent(const ModelConfig& config, const AttentionWeights& weights,
                  const RopeTable& rope, const Arithmetic& math, int64_t layer,
                  const float* x, std::span<const SequenceRows> sequences,
                  AttentionScratch* s);

// The tokens of a batch, one after the other: calls body(row, cache, position)
// in parallel, with the token's row in the batch and its place in the cache.
void ForEachToken(std::span<const SequenceRows> sequences,
                  const std::function<void(int64_t, KvCache*, int64_t)>& body);

}  // namespace internal

}  // namespace mobe
