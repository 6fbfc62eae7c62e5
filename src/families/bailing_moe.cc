// Bailing MoE: Ling-Lite and Ling-Plus (1 and 1.5), with a softmax router, and
// Ling 2.0 (mini, flash, 1T) with DeepSeek-V3's, a norm on each query and key
// head and half of a head rotated. Both have grouped-query attention from one
// matrix for queries, keys and values, and shared experts. Published configs of
// Ling 2.0 say "bailing_moe" as well as "bailing_moe_v2", so what a model is
// stands in the keys, not in the name.
// Source: modeling_bailing_moe.py of inclusionAI/Ling-lite and
// modeling_bailing_moe_v2.py of inclusionAI/Ling-V2.
#include "families/common.h"

namespace mobe {
namespace {

ModelConfig ReadBailing(const ConfigReader& json) {
  ModelConfig c = ReadBasics(json, 1e-5);
  const bool v2 = json.String("model_type", "") == "bailing_moe_v2";
  const bool sigmoid =
      json.String("score_function", v2 ? "sigmoid" : "softmax") == "sigmoid";
  if (!sigmoid) Expect(json, "score_function", "softmax");
  AttentionDefaults defaults;
  defaults.max_positions = 16384;
  // Ling 1 passes over what its config may say of a share.
  if (sigmoid) defaults.rotated_share = 1;
  ReadGroupedAttention(json, defaults, &c);
  if (json.Bool("use_qk_norm", false)) {
    c.query_key_norm = QueryKeyNorm::kHead;
  }
  c.qkv_bias = json.Bool("use_qkv_bias", false);
  c.attention_output_bias = json.Bool("use_bias", !sigmoid);
  c.norm_head = json.Bool("norm_head", false);
  c.dense_size = json.Size("intermediate_size");
  ReadExperts(json, "moe_intermediate_size", &c);
  c.shared_size = json.Count("num_shared_experts", 0) * c.expert_size;
  c.first_moe_layer = json.Count("first_k_dense_replace", 0);
  c.extra_layers = json.Count("num_nextn_predict_layers", 0);
  Expect(json, "multi_gate", false);
  Expect(json, "use_rmsnorm", true);
  if (sigmoid) {
    RouterRule published;  // configuration_bailing_moe_v2.py
    published.normalise = true;
    published.groups = 8;
    published.kept_groups = 4;
    published.scale = 2.5f;
    ReadSigmoidRouter(json, published, &c);
    Expect(json, "moe_router_enable_expert_bias", true);
    Expect(json, "moe_shared_expert_intermediate_size", c.shared_size);
  } else {
    c.router.normalise = json.Bool("norm_topk_prob", true);
    Expect(json, "moe_router_enable_expert_bias", false);
    Expect(json, "n_group", 1);
    Expect(json, "topk_group", 1);
    Expect(json, "routed_scaling_factor", 1);
  }
  c.router.normalise = c.router.normalise && c.experts_per_token > 1;
  CheckConfig(c, json);
  return c;
}

constexpr Dim kQueriesKeysValues = [](const ModelConfig& c) {
  return (c.num_heads + 2 * c.num_kv_heads) * c.head_dim;
};

#define LAYER "model.layers.{layer}."
constexpr TensorRow kBailingOwnRows[] = {
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
    {Role::kQueryNorm, Scope::kLayer, LAYER "attention.query_layernorm.weight",
     kQueryNormed, nullptr, kQueryKeyNorm},
    {Role::kKeyNorm, Scope::kLayer, LAYER "attention.key_layernorm.weight",
     kKeyNormed, nullptr, kQueryKeyNorm},
    {Role::kRouter, Scope::kMoeLayer, LAYER "mlp.gate.weight", kExperts,
     kHidden},
    {Role::kRouterBias, Scope::kMoeLayer, LAYER "mlp.gate.expert_bias",
     kExperts, nullptr, kRouterBiased},
};
#undef LAYER
constexpr auto kBailingRows =
    JoinRows(kBailingOwnRows, kHeadRows, kLayerNormRows, kExpertRows,
             kSharedRows, kDenseRows);

}  // namespace

// clang-tidy takes a constant of static storage for a variable.
// NOLINTBEGIN(readability-identifier-naming)
extern const Family kBailingMoe, kBailingMoeV2;
const Family kBailingMoe = {"bailing_moe", ReadBailing, kBailingRows};
const Family kBailingMoeV2 = {"bailing_moe_v2", ReadBailing, kBailingRows};
// NOLINTEND(readability-identifier-naming)

}  // namespace mobe
