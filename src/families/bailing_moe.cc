// Bailing MoE (Ling-Lite, Ling-Plus): grouped-query attention from one matrix
// for queries, keys and values, softmax router, shared experts.
// Source: modeling_bailing_moe.py of inclusionAI/Ling-lite.
#include <cmath>

#include "families/common.h"

namespace mobe {
namespace {

ModelConfig ReadBailingConfig(const ConfigReader& json) {
  ModelConfig c;
  c.vocab_size = json.Size("vocab_size");
  c.hidden_size = json.Size("hidden_size");
  c.num_layers = json.Size("num_hidden_layers");
  c.num_heads = json.Size("num_attention_heads");
  c.num_kv_heads = json.Size("num_key_value_heads", c.num_heads);
  c.head_dim = json.Size("head_dim", c.hidden_size / c.num_heads);
  c.value_dim = c.head_dim;
  c.max_positions = json.Size("max_position_embeddings", 16384);
  c.rope = ReadRope(json, c.head_dim, c.max_positions);
  c.max_positions = ExtendedPositions(c.rope, c.max_positions);
  c.attention_scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
  c.rms_norm_eps = static_cast<float>(json.Number("rms_norm_eps", 1e-5));
  c.qkv_bias = json.Bool("use_qkv_bias", false);
  c.attention_output_bias = json.Bool("use_bias", true);
  c.tie_embeddings = json.Bool("tie_word_embeddings", false);
  c.norm_head = json.Bool("norm_head", false);
  c.dense_size = json.Size("intermediate_size");
  c.expert_size = json.Size("moe_intermediate_size");
  c.shared_size = json.Count("num_shared_experts", 0) * c.expert_size;
  c.num_experts = json.Size(json.OneOf({"num_experts", "num_local_experts"}));
  c.experts_per_token = json.Size("num_experts_per_tok");
  c.router.normalise =
      c.experts_per_token > 1 && json.Bool("norm_topk_prob", true);
  c.first_moe_layer = json.Count("first_k_dense_replace", 0);
  // Ling 2.0 has the same model_type and another router and attention.
  Expect(json, "score_function", "softmax");
  Expect(json, "moe_router_enable_expert_bias", false);
  Expect(json, "n_group", 1);
  Expect(json, "topk_group", 1);
  Expect(json, "routed_scaling_factor", 1);
  Expect(json, "use_qk_norm", false);
  Expect(json, "multi_gate", false);
  CheckConfig(c, json);
  return c;
}

constexpr Dim kQueriesKeysValues = [](const ModelConfig& c) {
  return (c.num_heads + 2 * c.num_kv_heads) * c.head_dim;
};

#define LAYER "model.layers.{layer}."
constexpr auto kBailingRows = WithCommonRows({
    {Role::kEmbedding, Scope::kModel, "model.word_embeddings.weight", kVocab,
     kHidden},
    {Role::kQueryKeyValue, Scope::kLayer,
     LAYER "attention.query_key_value.weight", kQueriesKeysValues, kHidden},
    {Role::kQueryKeyValueBias, Scope::kLayer,
     LAYER "attention.query_key_value.bias", kQueriesKeysValues, nullptr,
     kQkvBiased},
    {Role::kAttentionOutput, Scope::kLayer, LAYER "attention.dense.weight",
     kHidden, kQueries},
    {Role::kAttentionOutputBias, Scope::kLayer, LAYER "attention.dense.bias",
     kHidden, nullptr, kOutputBiased},
});
#undef LAYER

}  // namespace

// clang-tidy takes a constant of static storage for a variable.
extern const Family kBailingMoe;  // NOLINT(readability-identifier-naming)
// NOLINTNEXTLINE(readability-identifier-naming)
const Family kBailingMoe = {"bailing_moe", ReadBailingConfig, kBailingRows};

}  // namespace mobe
