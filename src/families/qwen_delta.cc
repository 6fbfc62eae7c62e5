// Qwen3-Next (80B-A3B) and the text part of Qwen3.5 and 3.6 MoE (35B-A3B,
// 122B-A10B, 397B-A17B): gated delta nets, and in every fourth layer gated
// attention with a quarter of each head rotated; a softmax router and a shared
// expert with a gate of its own; norms that multiply by 1 + weight. Qwen3.5 has
// the delta nets' inputs in four matrices, where Qwen3-Next has two, and sees
// pictures, too, which is not run: its text part lies inside the rest, in
// config.json and in the names of tensors, or stands alone ("..._text").
// Source: transformers 5.24, models/qwen3_next and qwen3_5_moe.
#include "families/common.h"

namespace mobe {
namespace {

// A size that products are made of: CheckConfig says why.
int64_t DeltaSize(const ConfigReader& json, const char* key, int64_t fallback) {
  constexpr int64_t kMost = int64_t{1} << 20;
  const int64_t size = json.Size(key, fallback);
  if (size > kMost) json.Reject(key, fmt::format("at most {}", kMost));
  return size;
}

void ReadDeltaNets(const ConfigReader& json, ModelConfig* c) {
  c->delta = {DeltaSize(json, "linear_num_key_heads", 16),
              DeltaSize(json, "linear_num_value_heads", 32),
              DeltaSize(json, "linear_key_head_dim", 128),
              DeltaSize(json, "linear_value_head_dim", 128),
              DeltaSize(json, "linear_conv_kernel_dim", 4)};
  if (c->delta.value_heads % c->delta.key_heads != 0) {
    json.Reject("linear_num_value_heads",
                fmt::format("a multiple of linear_num_key_heads ({})",
                            c->delta.key_heads));
  }
  const int64_t interval = json.Size("full_attention_interval", 4);
  if (json.Has("layer_types")) {
    c->delta_layers = ListLayers(json, "layer_types", "linear_attention",
                                 "full_attention", *c);
  } else {
    c->attention_interval = interval;
  }
}

// What both have alike. `has_vision`: the model is the text part of one that
// sees pictures, which may be there, too.
ModelConfig ReadGatedModel(const ConfigReader& json, bool has_vision) {
  ModelConfig c = ReadBasics(json);
  AttentionDefaults defaults;
  defaults.rotated_share = 0.25;
  defaults.has_grids = has_vision;
  ReadGroupedAttention(json, defaults, &c);
  ReadDeltaNets(json, &c);
  c.has_vision = has_vision;
  c.query_key_norm = QueryKeyNorm::kHead;
  c.norm_offset = 1;
  c.attention_gate = true;
  Expect(json, "attn_output_gate", true);
  Expect(json, "attention_bias", false);
  ReadExperts(json, "moe_intermediate_size", &c);
  c.shared_size = json.Count("shared_expert_intermediate_size", 512);
  c.shared_scaled = true;
  // Of the state and of layers for multi-token prediction, of which the first
  // is always float32 here and the others are not run.
  json.Has("mamba_ssm_dtype");
  json.Has("mtp_num_hidden_layers");
  json.Has("mtp_use_dedicated_embeddings");
  return c;
}

ModelConfig ReadQwen3Next(const ConfigReader& json) {
  ModelConfig c = ReadGatedModel(json, false);
  c.router.normalise = json.Bool("norm_topk_prob", true);
  c.moe_layer_step = json.Size("decoder_sparse_step", 1);
  if (json.Has("mlp_only_layers")) {
    c.dense_layers = json.Counts("mlp_only_layers");
  }
  c.dense_size = json.Size("intermediate_size", 5632);
  CheckConfig(c, json);
  return c;
}

ModelConfig ReadQwen35Text(const ConfigReader& json) {
  ModelConfig c = ReadGatedModel(json, true);
  c.router.normalise = true;
  Expect(json, "norm_topk_prob", true);
  Expect(json, "decoder_sparse_step", 1);
  json.Has("intermediate_size");  // of layers without experts: there are none
  CheckConfig(c, json);
  return c;
}

ModelConfig ReadQwen35(const ConfigReader& json) {
  const ConfigReader text = json.Object("text_config");
  Expect(text, "model_type", "qwen3_5_moe_text");
  ModelConfig c = ReadQwen35Text(text);
  json.Has("vision_config");
  // The head is beside the text part, so its word counts.
  c.tie_embeddings = json.Bool("tie_word_embeddings", false);
  Expect(text, "tie_word_embeddings", c.tie_embeddings);
  CheckConfig(c, json);
  return c;
}

constexpr Dim kDeltaChannels = [](const ModelConfig& c) {
  return c.delta.channels();
};
constexpr Dim kDeltaValues = [](const ModelConfig& c) {
  return c.delta.values();
};
constexpr Dim kDeltaHeads = [](const ModelConfig& c) {
  return c.delta.value_heads;
};
constexpr Dim kDeltaValueDim = [](const ModelConfig& c) {
  return c.delta.value_dim;
};
constexpr Dim kDeltaWindow = [](const ModelConfig& c) {
  return c.delta.window;
};
constexpr Dim kDeltaInputRows = [](const ModelConfig& c) {
  return c.delta.channels() + c.delta.values();
};
constexpr Dim kDeltaRateRows = [](const ModelConfig& c) {
  return 2 * c.delta.value_heads;
};

#define NET "model.layers.{layer}.linear_attn."
constexpr TensorRow kDeltaRows[] = {
    {.role = Role::kDeltaConvolution,
     .scope = Scope::kDeltaLayer,
     .name = NET "conv1d.weight",
     .rows = kDeltaChannels,
     .cols = kDeltaWindow,
     .depthwise = true},
    {Role::kDeltaDecayBias, Scope::kDeltaLayer, NET "dt_bias", kDeltaHeads,
     nullptr},
    {Role::kDeltaDecayLog, Scope::kDeltaLayer, NET "A_log", kDeltaHeads,
     nullptr},
    {Role::kDeltaNorm, Scope::kDeltaLayer, NET "norm.weight", kDeltaValueDim,
     nullptr},
    {Role::kDeltaOutput, Scope::kDeltaLayer, NET "out_proj.weight", kHidden,
     kDeltaValues},
};
constexpr TensorRow kQwen3NextInputRows[] = {
    {Role::kDeltaInputs, Scope::kDeltaLayer, NET "in_proj_qkvz.weight",
     kDeltaInputRows, kHidden},
    {Role::kDeltaRates, Scope::kDeltaLayer, NET "in_proj_ba.weight",
     kDeltaRateRows, kHidden},
};
constexpr TensorRow kQwen35InputRows[] = {
    {Role::kDeltaQueryKeyValue, Scope::kDeltaLayer, NET "in_proj_qkv.weight",
     kDeltaChannels, kHidden},
    {Role::kDeltaGate, Scope::kDeltaLayer, NET "in_proj_z.weight", kDeltaValues,
     kHidden},
    {Role::kDeltaBeta, Scope::kDeltaLayer, NET "in_proj_b.weight", kDeltaHeads,
     kHidden},
    {Role::kDeltaDecay, Scope::kDeltaLayer, NET "in_proj_a.weight", kDeltaHeads,
     kHidden},
};
#undef NET
constexpr auto kQwen3NextRows =
    JoinRows(kEmbeddingRows, kHeadRows, kGroupedAttentionRows,
             kQwen3NextInputRows, kDeltaRows, kLayerNormRows, kRouterRows,
             kExpertRows, kGatedSharedRows, kDenseRows);
constexpr auto kQwen35Rows = JoinRows(
    kEmbeddingRows, kHeadRows, kGroupedAttentionRows, kQwen35InputRows,
    kDeltaRows, kLayerNormRows, kRouterRows, kExpertRows, kGatedSharedRows);

}  // namespace

// clang-tidy takes a constant of static storage for a variable.
// NOLINTBEGIN(readability-identifier-naming)
extern const Family kQwen3Next, kQwen35Moe, kQwen35MoeText;
constexpr char kInside[] = "model.language_model.";
const Family kQwen3Next = {"qwen3_next", ReadQwen3Next, kQwen3NextRows};
const Family kQwen35Moe = {.model_type = "qwen3_5_moe",
                           .read_config = ReadQwen35,
                           .rows = kQwen35Rows,
                           .prefix = kInside};
// As transformers 5 saves the text part of what it has read with the rest.
const Family kQwen35TextInside = {.model_type = "qwen3_5_moe_text",
                                  .read_config = ReadQwen35Text,
                                  .rows = kQwen35Rows,
                                  .prefix = kInside};
const Family kQwen35MoeText = {.model_type = "qwen3_5_moe_text",
                               .read_config = ReadQwen35Text,
                               .rows = kQwen35Rows,
                               .otherwise = &kQwen35TextInside};
// NOLINTEND(readability-identifier-naming)

}  // namespace mobe
