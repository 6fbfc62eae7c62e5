// Qwen3-MoE (30B-A3B, 235B-A22B): grouped-query attention with an RMS norm on
// each query and key head, softmax router, no shared expert.
// Source: transformers 4.57, models/qwen3_moe.
#include <cmath>

#include "families/common.h"

namespace mobe {
namespace {

ModelConfig ReadQwenConfig(const ConfigReader& json) {
  ModelConfig c;
  c.vocab_size = json.Size("vocab_size");
  c.hidden_size = json.Size("hidden_size");
  c.num_layers = json.Size("num_hidden_layers");
  c.num_heads = json.Size("num_attention_heads");
  c.num_kv_heads = json.Size("num_key_value_heads", c.num_heads);
  c.head_dim = json.Size("head_dim", c.hidden_size / c.num_heads);
  c.max_positions = json.Size("max_position_embeddings", 32768);
  c.rope = ReadRope(json, c.head_dim, c.max_positions);
  c.max_positions = ExtendedPositions(c.rope, c.max_positions);
  c.value_dim = c.head_dim;
  c.attention_scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
  c.rms_norm_eps = static_cast<float>(json.Number("rms_norm_eps", 1e-6));
  c.qkv_bias = json.Bool("attention_bias", false);
  c.attention_output_bias = c.qkv_bias;
  c.tie_embeddings = json.Bool("tie_word_embeddings", false);
  c.dense_size = json.Size("intermediate_size");
  c.expert_size = json.Size("moe_intermediate_size");
  c.num_experts = json.Size(json.OneOf({"num_experts", "num_local_experts"}));
  c.experts_per_token = json.Size("num_experts_per_tok");
  c.router.normalise = json.Bool("norm_topk_prob", false);
  c.moe_layer_step = json.Size("decoder_sparse_step", 1);
  if (json.Has("mlp_only_layers")) {
    c.dense_layers = json.Counts("mlp_only_layers");
  }
  // Qwen3-Coder says so, too.
  Expect(json, "use_qk_norm", true);
  Expect(json, "shared_expert_intermediate_size", 0);
  CheckConfig(c, json);
  return c;
}

#define LAYER "model.layers.{layer}."
constexpr auto kQwenRows = WithCommonRows({
    {Role::kEmbedding, Scope::kModel, "model.embed_tokens.weight", kVocab,
     kHidden},
    {Role::kQuery, Scope::kLayer, LAYER "self_attn.q_proj.weight", kQueries,
     kHidden},
    {Role::kKey, Scope::kLayer, LAYER "self_attn.k_proj.weight", kKeys,
     kHidden},
    {Role::kValue, Scope::kLayer, LAYER "self_attn.v_proj.weight", kKeys,
     kHidden},
    {Role::kAttentionOutput, Scope::kLayer, LAYER "self_attn.o_proj.weight",
     kHidden, kQueries},
    {Role::kQueryBias, Scope::kLayer, LAYER "self_attn.q_proj.bias", kQueries,
     nullptr, kQkvBiased},
    {Role::kKeyBias, Scope::kLayer, LAYER "self_attn.k_proj.bias", kKeys,
     nullptr, kQkvBiased},
    {Role::kValueBias, Scope::kLayer, LAYER "self_attn.v_proj.bias", kKeys,
     nullptr, kQkvBiased},
    {Role::kAttentionOutputBias, Scope::kLayer, LAYER "self_attn.o_proj.bias",
     kHidden, nullptr, kOutputBiased},
    {Role::kQueryNorm, Scope::kLayer, LAYER "self_attn.q_norm.weight", kHead,
     nullptr},
    {Role::kKeyNorm, Scope::kLayer, LAYER "self_attn.k_norm.weight", kHead,
     nullptr},
});
#undef LAYER

}  // namespace

// clang-tidy takes a constant of static storage for a variable.
extern const Family kQwen3Moe;  // NOLINT(readability-identifier-naming)
// NOLINTNEXTLINE(readability-identifier-naming)
const Family kQwen3Moe = {"qwen3_moe", ReadQwenConfig, kQwenRows};

}  // namespace mobe
