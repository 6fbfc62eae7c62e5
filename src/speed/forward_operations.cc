#include "speed/forward_operations.h"

namespace mobe {
namespace {

// Of a config, in double: sizes of up to 2^31 are multiplied.
struct Sizes {
  explicit Sizes(const ModelConfig& c)
      : vocab(static_cast<double>(c.vocab_size)),
        hidden(static_cast<double>(c.hidden_size)),
        heads(static_cast<double>(c.num_heads)),
        kv_heads(static_cast<double>(c.num_kv_heads)),
        head_dim(static_cast<double>(c.head_dim)),
        value_dim(static_cast<double>(c.value_dim)),
        rotated(static_cast<double>(c.rope.dim)),
        kv_rank(static_cast<double>(c.latent.kv_rank)),
        query_rank(static_cast<double>(c.latent.query_rank)),
        nope(static_cast<double>(c.latent.nope)),
        dense(static_cast<double>(c.dense_size)),
        expert(static_cast<double>(c.expert_size)),
        shared(static_cast<double>(c.shared_size)),
        experts(static_cast<double>(c.num_experts)),
        picks(static_cast<double>(c.experts_per_token)),
        delta_channels(static_cast<double>(c.delta.channels())),
        delta_values(static_cast<double>(c.delta.values())),
        delta_heads(static_cast<double>(c.delta.value_heads)),
        delta_key(static_cast<double>(c.delta.key_dim)) {}

  double vocab, hidden, heads, kv_heads, head_dim, value_dim, rotated, kv_rank,
      query_rank, nope, dense, expert, shared, experts, picks, delta_channels,
      delta_values, delta_heads, delta_key;
};

// Weights of attention that a token meets in a layer. A delta net's matrices S
// count, too: a token reads them by its key, writes them, and reads them by its
// query.
double AttentionWeightsOf(const ModelConfig& config, const Sizes& n,
                          int64_t layer) {
  if (config.IsDeltaLayer(layer)) {
    return n.hidden *
               (n.delta_channels + 2 * n.delta_values + 2 * n.delta_heads) +
           3 * n.delta_key * n.delta_values;
  }
  const double queries = (config.attention_gate ? 2 : 1) * n.heads * n.head_dim;
  const double output = n.heads * n.value_dim * n.hidden;
  if (!config.IsLatent()) {
    return n.hidden * (queries + n.kv_heads * (n.head_dim + n.value_dim)) +
           output;
  }
  const double query = n.query_rank == 0 ? n.hidden * queries
                                         : n.query_rank * (n.hidden + queries);
  return query + n.hidden * (n.kv_rank + n.rotated) +
         n.kv_rank * n.heads * (n.nope + n.value_dim) + output;
}

double MlpWeightsOf(const ModelConfig& config, const Sizes& n, int64_t layer) {
  if (!config.IsMoeLayer(layer)) return 3 * n.hidden * n.dense;
  return n.hidden * n.experts + 3 * n.hidden * (n.picks * n.expert + n.shared);
}

}  // namespace

double ForwardOperations(const ModelConfig& config, int64_t tokens,
                         int64_t depth, int64_t logits) {
  const Sizes n(config);
  const auto count = static_cast<double>(tokens);
  double weights = 0;     // that one token meets
  double attentions = 0;  // layers
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    weights +=
        AttentionWeightsOf(config, n, layer) + MlpWeightsOf(config, n, layer);
    if (!config.IsDeltaLayer(layer)) ++attentions;
  }
  // Tokens seen by all tokens together: depth + 1, depth + 2, ...
  const double seen =
      count * static_cast<double>(depth) + count * (count + 1) / 2;
  const double attended =
      attentions * n.heads * (n.head_dim + n.value_dim) * seen;
  return 2 * (count * weights + attended +
              static_cast<double>(logits) * n.hidden * n.vocab);
}

}  // namespace mobe
