// DeepSeek-V2, DeepSeek-V3 and Kimi-K2: multi-head latent attention, leading
// dense layers, shared experts. V2 routes by softmax, V3 and Kimi-K2 by sigmoid
// with a bias. The layer for multi-token prediction, which V3 has behind the
// others (model.layers.61 and so on), is no part of the table: it is not run,
// and compress copies it.
// Source: DeepSeek's own modeling_deepseek.py of each model; transformers 4.57,
// models/deepseek_v2 and deepseek_v3.
#include <cmath>

#include "families/common.h"

namespace mobe {
namespace {

void ReadAttention(const ConfigReader& json, ModelConfig* c) {
  c->num_heads = json.Size("num_attention_heads");
  c->num_kv_heads = c->num_heads;
  Expect(json, "num_key_value_heads", c->num_heads);
  Expect(json, "attention_bias", false);
  Expect(json, "rope_interleave", true);
  c->latent.kv_rank = json.Size("kv_lora_rank");
  if (json.Has("q_lora_rank")) c->latent.query_rank = json.Size("q_lora_rank");
  c->latent.nope = json.Size("qk_nope_head_dim");
  const int64_t rotated = json.Size("qk_rope_head_dim");
  c->head_dim = c->latent.nope + rotated;
  c->value_dim = json.Size("v_head_dim");
  c->rope = ReadRope(json, rotated, c->max_positions);
  c->max_positions = PositionsOf(c->rope, c->max_positions);
  c->rope.interleaved = true;
  c->attention_scale = 1 / std::sqrt(static_cast<float>(c->head_dim));
  // transformers 4.57 leaves this factor out for V2, though V2 was trained with
  // it (DeepSeek's own modeling_deepseek.py has it).
  const double scale = c->rope.attention_scale;
  c->attention_scale *= static_cast<float>(scale * scale);
}

ModelConfig ReadCommon(const ConfigReader& json) {
  ModelConfig c = ReadBasics(json);
  c.extra_layers =
      json.Count(json.OneOf({"num_nextn_predict_layers", "num_mtp_layers"}), 0);
  c.max_positions = json.Size("max_position_embeddings", 2048);
  ReadAttention(json, &c);
  c.dense_size = json.Size("intermediate_size");
  ReadExperts(json, "moe_intermediate_size", &c);
  c.shared_size = json.Count("n_shared_experts", 0) * c.expert_size;
  c.first_moe_layer = json.Count("first_k_dense_replace", 0);
  Expect(json, "moe_layer_freq", 1);
  Expect(json, "mlp_bias", false);
  return c;
}

ModelConfig ReadV2(const ConfigReader& json) {
  ModelConfig c = ReadCommon(json);
  // V2-Lite picks the best of all experts, V2 the best of the best groups.
  const std::string method = json.String("topk_method", "greedy");
  if (method != "greedy") Expect(json, "topk_method", "group_limited_greedy");
  Expect(json, "scoring_func", "softmax");
  Expect(json, "norm_topk_prob", false);
  c.router.scale = static_cast<float>(json.Number("routed_scaling_factor", 1));
  if (method == "greedy") {  // which passes groups over
    json.Has("n_group");
    json.Has("topk_group");
  } else {
    ReadGroups(json, {}, &c);
  }
  CheckConfig(c, json);
  return c;
}

ModelConfig ReadV3(const ConfigReader& json) {
  ModelConfig c = ReadCommon(json);
  Expect(json, "topk_method", "noaux_tc");
  Expect(json, "scoring_func", "sigmoid");
  RouterRule published;  // configuration_deepseek.py
  published.normalise = true;
  published.scale = 2.5f;
  published.groups = 8;
  published.kept_groups = 4;
  ReadSigmoidRouter(json, published, &c);
  CheckConfig(c, json);
  return c;
}

constexpr Dim kQueryRank = [](const ModelConfig& c) {
  return c.latent.query_rank;
};
constexpr Dim kLatent = [](const ModelConfig& c) { return c.latent.kv_rank; };
constexpr Dim kLatentAndKey = [](const ModelConfig& c) {
  return c.latent.kv_rank + c.rope.dim;
};
constexpr Dim kKeysAndValues = [](const ModelConfig& c) {
  return c.num_heads * (c.latent.nope + c.value_dim);
};
constexpr When kDirectQuery = [](const ModelConfig& c) {
  return c.latent.query_rank == 0;
};
constexpr When kLowRankQuery = [](const ModelConfig& c) {
  return c.latent.query_rank > 0;
};
#define ATTENTION "model.layers.{layer}.self_attn."
constexpr TensorRow kLatentRows[] = {
    {Role::kQuery, Scope::kLayer, ATTENTION "q_proj.weight", kQueries, kHidden,
     kDirectQuery},
    {Role::kQueryDown, Scope::kLayer, ATTENTION "q_a_proj.weight", kQueryRank,
     kHidden, kLowRankQuery},
    {Role::kQueryDownNorm, Scope::kLayer, ATTENTION "q_a_layernorm.weight",
     kQueryRank, nullptr, kLowRankQuery},
    {Role::kQueryUp, Scope::kLayer, ATTENTION "q_b_proj.weight", kQueries,
     kQueryRank, kLowRankQuery},
    {Role::kLatentDown, Scope::kLayer, ATTENTION "kv_a_proj_with_mqa.weight",
     kLatentAndKey, kHidden},
    {Role::kLatentNorm, Scope::kLayer, ATTENTION "kv_a_layernorm.weight",
     kLatent, nullptr},
    {Role::kLatentUp, Scope::kLayer, ATTENTION "kv_b_proj.weight",
     kKeysAndValues, kLatent},
    {Role::kAttentionOutput, Scope::kLayer, ATTENTION "o_proj.weight", kHidden,
     kAttended},
};
#undef ATTENTION
constexpr auto kDeepSeekRows =
    JoinRows(kEmbeddingRows, kHeadRows, kLatentRows, kLayerNormRows,
             kRouterRows, kExpertRows, kSharedRows, kDenseRows);

}  // namespace

// clang-tidy takes a constant of static storage for a variable.
// NOLINTBEGIN(readability-identifier-naming)
extern const Family kDeepseekV2, kDeepseekV3, kKimiK2;
const Family kDeepseekV2 = {"deepseek_v2", ReadV2, kDeepSeekRows};
const Family kDeepseekV3 = {"deepseek_v3", ReadV3, kDeepSeekRows};
const Family kKimiK2 = {"kimi_k2", ReadV3, kDeepSeekRows};
// NOLINTEND(readability-identifier-naming)

}  // namespace mobe
