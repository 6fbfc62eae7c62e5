// Hunyuan 3 (Hy3): grouped-query attention with a norm on each query and key
// head, sigmoids with a bias, a shared expert.
// Source: transformers 5.24, models/hy_v3; names of tensors as in its
// conversion_mapping.py.
#include "families/common.h"

namespace mobe {
namespace {

ModelConfig ReadHyV3(const ConfigReader& json) {
  ModelConfig c = ReadBasics(json, 1e-5);
  AttentionDefaults defaults;
  defaults.max_positions = 131072;
  defaults.rope_theta = 11158840;
  ReadGroupedAttention(json, defaults, &c);
  c.query_key_norm = QueryKeyNorm::kHead;
  c.qkv_bias = json.Bool("attention_bias", false);
  c.attention_output_bias = c.qkv_bias;
  Expect(json, "mlp_bias", false);
  c.dense_size = json.Size("intermediate_size");
  ReadExperts(json, "moe_intermediate_size", &c);
  c.shared_size = json.Count("num_shared_experts", 1) * c.expert_size;
  c.extra_layers = json.Count("num_nextn_predict_layers", 0);
  c.router.scoring = Scoring::kSigmoid;
  c.router.bias = true;
  c.router.normalise = true;
  c.router.scale =
      static_cast<float>(json.Number("router_scaling_factor", 2.826));
  // In which precision experts and shared ones are added: here always float32.
  json.Has("enable_moe_fp32_combine");
  c.first_moe_layer = json.Count("first_k_dense_replace", 1);
  if (json.Has("mlp_layer_types")) {
    c.first_moe_layer = 0;
    c.dense_layers = ListLayers(json, "mlp_layer_types", "dense", "sparse", c);
  }
  CheckConfig(c, json);
  return c;
}

#define MLP "model.layers.{layer}.mlp."
constexpr TensorRow kHyRows[] = {
    {Role::kRouter, Scope::kMoeLayer, MLP "router.gate.weight", kExperts,
     kHidden},
    {Role::kRouterBias, Scope::kMoeLayer, MLP "expert_bias", kExperts, nullptr},
    {Role::kSharedGate, Scope::kMoeLayer, MLP "shared_mlp.gate_proj.weight",
     kShared, kHidden, kSharing},
    {Role::kSharedUp, Scope::kMoeLayer, MLP "shared_mlp.up_proj.weight",
     kShared, kHidden, kSharing},
    {Role::kSharedDown, Scope::kMoeLayer, MLP "shared_mlp.down_proj.weight",
     kHidden, kShared, kSharing},
};
#undef MLP
constexpr auto kHyV3Rows =
    JoinRows(kEmbeddingRows, kHeadRows, kGroupedAttentionRows, kLayerNormRows,
             kExpertRows, kHyRows, kDenseRows);

// The names of kOwnRouterRows.
constexpr auto kOwnHyV3Rows =
    JoinRows(kEmbeddingRows, kHeadRows, kGroupedAttentionRows, kLayerNormRows,
             kOwnRouterRows, kExpertRows, kSharedRows, kDenseRows);

constexpr Family kOwnHyV3 = {"hy_v3", ReadHyV3, kOwnHyV3Rows};

}  // namespace

// clang-tidy takes a constant of static storage for a variable.
extern const Family kHyV3;  // NOLINT(readability-identifier-naming)
// NOLINTNEXTLINE(readability-identifier-naming)
const Family kHyV3 = {.model_type = "hy_v3",
                      .read_config = ReadHyV3,
                      .rows = kHyV3Rows,
                      .otherwise = &kOwnHyV3};

}  // namespace mobe
