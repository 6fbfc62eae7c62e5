// Qwen2-MoE (Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B) and Qwen3-MoE (30B-A3B,
// 235B-A22B): grouped-query attention and a softmax router. Qwen3 has an RMS
// norm on each query and key head, Qwen2 biases and a shared expert with a gate
// of its own.
// Source: transformers 4.57, models/qwen2_moe and qwen3_moe.
#include "families/common.h"

namespace mobe {
namespace {

ModelConfig ReadQwen(const ConfigReader& json) {
  ModelConfig c = ReadBasics(json);
  ReadGroupedAttention(json, {}, &c);
  c.dense_size = json.Size("intermediate_size");
  ReadExperts(json, "moe_intermediate_size", &c);
  c.router.normalise = json.Bool("norm_topk_prob", false);
  c.moe_layer_step = json.Size("decoder_sparse_step", 1);
  if (json.Has("mlp_only_layers")) {
    c.dense_layers = json.Counts("mlp_only_layers");
  }
  return c;
}

ModelConfig ReadQwen2(const ConfigReader& json) {
  ModelConfig c = ReadQwen(json);
  c.qkv_bias = json.Bool("qkv_bias", true);
  c.shared_size = json.Count("shared_expert_intermediate_size", 0);
  c.shared_scaled = true;
  CheckConfig(c, json);
  return c;
}

ModelConfig ReadQwen3(const ConfigReader& json) {
  ModelConfig c = ReadQwen(json);
  c.query_key_norm = QueryKeyNorm::kHead;
  c.qkv_bias = json.Bool("attention_bias", false);
  c.attention_output_bias = c.qkv_bias;
  // Qwen3-Coder says so, too.
  Expect(json, "use_qk_norm", true);
  Expect(json, "shared_expert_intermediate_size", 0);
  CheckConfig(c, json);
  return c;
}

constexpr auto kQwenRows =
    JoinRows(kEmbeddingRows, kHeadRows, kGroupedAttentionRows, kLayerNormRows,
             kRouterRows, kExpertRows, kGatedSharedRows, kDenseRows);

}  // namespace

// clang-tidy takes a constant of static storage for a variable.
// NOLINTBEGIN(readability-identifier-naming)
extern const Family kQwen2Moe, kQwen3Moe;
const Family kQwen2Moe = {"qwen2_moe", ReadQwen2, kQwenRows};
const Family kQwen3Moe = {"qwen3_moe", ReadQwen3, kQwenRows};
// NOLINTEND(readability-identifier-naming)

}  // namespace mobe
