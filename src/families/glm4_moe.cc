// GLM-4.5, 4.6 and 4.7: grouped-query attention with half of a head rotated,
// leading dense layers, DeepSeek-V3's router and a shared expert.
// Source: transformers 4.57 and 5.24, models/glm4_moe.
#include "families/common.h"

namespace mobe {
namespace {

ModelConfig ReadGlm4Moe(const ConfigReader& json) {
  ModelConfig c = ReadBasics(json, 1e-5);
  AttentionDefaults defaults;
  defaults.max_positions = 131072;
  defaults.rotated_share = 0.5;
  ReadGroupedAttention(json, defaults, &c);
  c.qkv_bias = json.Bool("attention_bias", false);
  if (json.Bool("use_qk_norm", false)) {
    c.query_key_norm = QueryKeyNorm::kHead;
  }
  c.dense_size = json.Size("intermediate_size");
  ReadExperts(json, "moe_intermediate_size", &c);
  c.shared_size = json.Count("n_shared_experts", 1) * c.expert_size;
  c.first_moe_layer = json.Count("first_k_dense_replace", 1);
  c.extra_layers =
      json.Count(json.OneOf({"num_nextn_predict_layers", "num_mtp_layers"}), 0);
  RouterRule published;
  published.normalise = true;
  ReadSigmoidRouter(json, published, &c);
  CheckConfig(c, json);
  return c;
}

constexpr auto kGlm4MoeRows =
    JoinRows(kEmbeddingRows, kHeadRows, kGroupedAttentionRows, kLayerNormRows,
             kRouterRows, kExpertRows, kSharedRows, kDenseRows);

}  // namespace

// clang-tidy takes a constant of static storage for a variable.
extern const Family kGlm4Moe;  // NOLINT(readability-identifier-naming)
// NOLINTNEXTLINE(readability-identifier-naming)
const Family kGlm4Moe = {"glm4_moe", ReadGlm4Moe, kGlm4MoeRows};

}  // namespace mobe
