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
  c->max_positions = ExtendedPositions(c->rope, c->max_positions);
  c->rope.interleaved = true;
  c->attention_scale = 1 / std::sqrt(static_cast<float>(c->head_dim));
  // transformers 4.57 leaves this factor out for V2, though V2 was trained with
  // it (DeepSeek's own modeling_deepseek.py has it).
  const double scale = c->rope.attention_scale;
  c->attention_scale *= static_cast<float>(scale * scale);
}

// What is not in config.json is as in `missing`.
void ReadGroups(const ConfigReader& json, const RouterRule& missing,
                ModelConfig* c) {
  RouterRule* router = &c->router;
  router->groups = json.Size("n_group", missing.groups);
  router->kept_groups =
      json.Size("topk_group", std::min(missing.kept_groups, router->groups));
  if (c->num_experts % router->groups != 0) {
    json.Reject(
        "n_group",
        fmt::format("a divisor of the number of experts ({})", c->num_experts));
  }
  const int64_t group = c->num_experts / router->groups;
  if (router->kept_groups > router->groups) {
    json.Reject("topk_group",
                fmt::format("at most n_group ({})", router->groups));
  }
  if (c->experts_per_token > router->kept_groups * group) {
    json.Reject("num_experts_per_tok",
                fmt::format("at most the experts of topk_group groups ({})",
                            router->kept_groups * group));
  }
  if (router->bias && router->groups > 1 && group < 2) {
    json.Reject("n_group", "groups of two experts at least");
  }
}

void ReadWeights(const ConfigReader& json, const RouterRule& missing,
                 RouterRule* router) {
  router->normalise = json.Bool("norm_topk_prob", missing.normalise);
  router->scale =
      static_cast<float>(json.Number("routed_scaling_factor", missing.scale));
}

ModelConfig ReadCommon(const ConfigReader& json) {
  ModelConfig c;
  c.vocab_size = json.Size("vocab_size");
  c.hidden_size = json.Size("hidden_size");
  c.num_layers = json.Size("num_hidden_layers");
  c.extra_layers =
      json.Count(json.OneOf({"num_nextn_predict_layers", "num_mtp_layers"}), 0);
  c.max_positions = json.Size("max_position_embeddings", 2048);
  ReadAttention(json, &c);
  c.rms_norm_eps = static_cast<float>(json.Number("rms_norm_eps", 1e-6));
  c.tie_embeddings = json.Bool("tie_word_embeddings", false);
  c.dense_size = json.Size("intermediate_size");
  c.expert_size = json.Size("moe_intermediate_size");
  c.shared_size = json.Count("n_shared_experts", 0) * c.expert_size;
  c.num_experts = json.Size(
      json.OneOf({"n_routed_experts", "num_local_experts", "num_experts"}));
  c.experts_per_token = json.Size("num_experts_per_tok");
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
  ReadWeights(json, {}, &c.router);
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
  c.router.scoring = Scoring::kSigmoid;
  c.router.bias = true;
  RouterRule published;  // configuration_deepseek.py
  published.normalise = true;
  published.scale = 2.5f;
  published.groups = 8;
  published.kept_groups = 4;
  ReadWeights(json, published, &c.router);
  ReadGroups(json, published, &c);
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
constexpr When kRouterBiased = [](const ModelConfig& c) {
  return c.router.bias;
};

#define LAYER "model.layers.{layer}."
#define ATTENTION LAYER "self_attn."
constexpr auto kDeepSeekRows = WithCommonRows({
    {Role::kEmbedding, Scope::kModel, "model.embed_tokens.weight", kVocab,
     kHidden},
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
    {Role::kRouterBias, Scope::kMoeLayer,
     LAYER "mlp.gate.e_score_correction_bias", kExperts, nullptr,
     kRouterBiased},
});
#undef ATTENTION
#undef LAYER

}  // namespace

// clang-tidy takes a constant of static storage for a variable.
// NOLINTBEGIN(readability-identifier-naming)
extern const Family kDeepseekV2, kDeepseekV3, kKimiK2;
const Family kDeepseekV2 = {"deepseek_v2", ReadV2, kDeepSeekRows};
const Family kDeepseekV3 = {"deepseek_v3", ReadV3, kDeepSeekRows};
const Family kKimiK2 = {"kimi_k2", ReadV3, kDeepSeekRows};
// NOLINTEND(readability-identifier-naming)

}  // namespace mobe
