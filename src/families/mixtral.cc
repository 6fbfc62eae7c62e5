// Mixtral (8x7B, 8x22B): grouped-query attention, softmax router over few large
// experts. MiniMax-M2 has its names of tensors, a norm over all query heads and
// one over all key heads, half of a head rotated, and sigmoids with a bias.
// Source: transformers 4.57 and 5.24, models/mixtral and minimax_m2.
#include "families/common.h"

namespace mobe {
namespace {

ModelConfig ReadMixtral(const ConfigReader& json) {
  ModelConfig c = ReadBasics(json, 1e-5);
  AttentionDefaults defaults;
  defaults.max_positions = 131072;
  defaults.rope_theta = 1e6;
  ReadGroupedAttention(json, defaults, &c);
  ReadExperts(json, "intermediate_size", &c);
  c.router.normalise = true;
  Expect(json, "sliding_window", Json());
  json.Has("router_jitter_noise");  // of training
  CheckConfig(c, json);
  return c;
}

ModelConfig ReadMiniMaxM2(const ConfigReader& json) {
  ModelConfig c = ReadBasics(json);
  AttentionDefaults defaults;
  defaults.max_positions = 196608;
  defaults.rope_theta = 5e6;
  defaults.rotated_share = 1;
  if (json.Has("rotary_dim")) {
    defaults.rotated_share = static_cast<double>(json.Size("rotary_dim")) /
                             static_cast<double>(json.Size("head_dim"));
  }
  ReadGroupedAttention(json, defaults, &c);
  c.query_key_norm = QueryKeyNorm::kWhole;
  Expect(json, "use_qk_norm", true);
  Expect(json, "qk_norm_type", "per_layer");
  ReadExperts(json, "intermediate_size", &c);
  Expect(json, "shared_intermediate_size", 0);
  Expect(json, "scoring_func", "sigmoid");
  Expect(json, "use_routing_bias", true);
  RouterRule published;
  published.normalise = true;
  ReadSigmoidRouter(json, published, &c);
  // All layers attend in the same way, whatever its predecessor's keys say; the
  // modules for multi-token prediction are not in the published files.
  for (const char* unused :
       {"attn_type_list", "layernorm_full_attention_beta",
        "layernorm_linear_attention_beta", "layernorm_mlp_beta",
        "mlp_intermediate_size", "shared_moe_mode", "use_mtp",
        "num_mtp_modules", "mtp_transformer_layers", "router_jitter_noise"}) {
    json.Has(unused);
  }
  CheckConfig(c, json);
  return c;
}

#define BLOCK "model.layers.{layer}.block_sparse_moe."
constexpr TensorRow kBlockRows[] = {
    {Role::kRouter, Scope::kMoeLayer, BLOCK "gate.weight", kExperts, kHidden},
    {Role::kRouterBias, Scope::kMoeLayer, BLOCK "e_score_correction_bias",
     kExperts, nullptr, kRouterBiased},
    {Role::kExpertGate, Scope::kExpert, BLOCK "experts.{expert}.w1.weight",
     kExpert, kHidden},
    {Role::kExpertUp, Scope::kExpert, BLOCK "experts.{expert}.w3.weight",
     kExpert, kHidden},
    {Role::kExpertDown, Scope::kExpert, BLOCK "experts.{expert}.w2.weight",
     kHidden, kExpert},
};
#undef BLOCK
constexpr auto kMixtralRows =
    JoinRows(kEmbeddingRows, kHeadRows, kGroupedAttentionRows, kLayerNormRows,
             kBlockRows);

// The names of kOwnRouterRows.
constexpr auto kOwnRows =
    JoinRows(kEmbeddingRows, kHeadRows, kGroupedAttentionRows, kLayerNormRows,
             kOwnRouterRows, kExpertRows);

constexpr Family kOwnMixtral = {"mixtral", ReadMixtral, kOwnRows};
constexpr Family kOwnMiniMaxM2 = {"minimax_m2", ReadMiniMaxM2, kOwnRows};

}  // namespace

// clang-tidy takes a constant of static storage for a variable.
// NOLINTBEGIN(readability-identifier-naming)
extern const Family kMixtral, kMiniMaxM2;
const Family kMixtral = {.model_type = "mixtral",
                         .read_config = ReadMixtral,
                         .rows = kMixtralRows,
                         .otherwise = &kOwnMixtral};
const Family kMiniMaxM2 = {.model_type = "minimax_m2",
                           .read_config = ReadMiniMaxM2,
                           .rows = kMixtralRows,
                           .otherwise = &kOwnMiniMaxM2};
// NOLINTEND(readability-identifier-naming)

}  // namespace mobe
