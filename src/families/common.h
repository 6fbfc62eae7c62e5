// What families have in common: refusing what can't be run; of their tables
// dimensions, conditions, and rows; reading what most configs say alike.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

#include "base/error.h"
#include "families/family.h"

namespace mobe {

inline constexpr Dim kVocab = [](const ModelConfig& c) { return c.vocab_size; };
inline constexpr Dim kHidden = [](const ModelConfig& c) {
  return c.hidden_size;
};
inline constexpr Dim kOne = [](const ModelConfig&) { return int64_t{1}; };
inline constexpr Dim kHead = [](const ModelConfig& c) { return c.head_dim; };
inline constexpr Dim kQueries = [](const ModelConfig& c) {
  return c.num_heads * c.head_dim;
};
inline constexpr Dim kKeys = [](const ModelConfig& c) {
  return c.num_kv_heads * c.head_dim;
};
inline constexpr Dim kAttended = [](const ModelConfig& c) {
  return c.num_heads * c.value_dim;
};
// Queries, and with each head its gate where there is one.
inline constexpr Dim kQueryRows = [](const ModelConfig& c) {
  return (c.attention_gate ? 2 : 1) * c.num_heads * c.head_dim;
};
// How many numbers of a query or key have one norm.
inline constexpr Dim kQueryNormed = [](const ModelConfig& c) {
  return c.query_key_norm == QueryKeyNorm::kWhole ? c.num_heads * c.head_dim
                                                  : c.head_dim;
};
inline constexpr Dim kKeyNormed = [](const ModelConfig& c) {
  return c.query_key_norm == QueryKeyNorm::kWhole ? c.num_kv_heads * c.head_dim
                                                  : c.head_dim;
};
inline constexpr Dim kDense = [](const ModelConfig& c) { return c.dense_size; };
inline constexpr Dim kExpert = [](const ModelConfig& c) {
  return c.expert_size;
};
inline constexpr Dim kShared = [](const ModelConfig& c) {
  return c.shared_size;
};
inline constexpr Dim kExperts = [](const ModelConfig& c) {
  return c.num_experts;
};

using When = bool (*)(const ModelConfig&);
inline constexpr When kUntied = [](const ModelConfig& c) {
  return !c.tie_embeddings;
};
inline constexpr When kQkvBiased = [](const ModelConfig& c) {
  return c.qkv_bias;
};
inline constexpr When kOutputBiased = [](const ModelConfig& c) {
  return c.attention_output_bias;
};
inline constexpr When kQueryKeyNorm = [](const ModelConfig& c) {
  return c.query_key_norm != QueryKeyNorm::kNone;
};
inline constexpr When kRouterBiased = [](const ModelConfig& c) {
  return c.router.bias;
};
inline constexpr When kSharing = [](const ModelConfig& c) {
  return c.shared_size > 0;
};

#define LAYER "model.layers.{layer}."
inline constexpr TensorRow kEmbeddingRows[] = {
    {Role::kEmbedding, Scope::kModel, "model.embed_tokens.weight", kVocab,
     kHidden},
};
inline constexpr TensorRow kHeadRows[] = {
    {Role::kFinalNorm, Scope::kModel, "model.norm.weight", kHidden, nullptr},
    {Role::kOutput, Scope::kModel, "lm_head.weight", kVocab, kHidden, kUntied},
};
inline constexpr TensorRow kLayerNormRows[] = {
    {Role::kAttentionNorm, Scope::kLayer, LAYER "input_layernorm.weight",
     kHidden, nullptr},
    {Role::kMlpNorm, Scope::kLayer, LAYER "post_attention_layernorm.weight",
     kHidden, nullptr},
};
inline constexpr TensorRow kGroupedAttentionRows[] = {
    {Role::kQuery, Scope::kAttentionLayer, LAYER "self_attn.q_proj.weight",
     kQueryRows, kHidden},
    {Role::kKey, Scope::kAttentionLayer, LAYER "self_attn.k_proj.weight", kKeys,
     kHidden},
    {Role::kValue, Scope::kAttentionLayer, LAYER "self_attn.v_proj.weight",
     kKeys, kHidden},
    {Role::kAttentionOutput, Scope::kAttentionLayer,
     LAYER "self_attn.o_proj.weight", kHidden, kQueries},
    {Role::kQueryBias, Scope::kAttentionLayer, LAYER "self_attn.q_proj.bias",
     kQueries, nullptr, kQkvBiased},
    {Role::kKeyBias, Scope::kAttentionLayer, LAYER "self_attn.k_proj.bias",
     kKeys, nullptr, kQkvBiased},
    {Role::kValueBias, Scope::kAttentionLayer, LAYER "self_attn.v_proj.bias",
     kKeys, nullptr, kQkvBiased},
    {Role::kAttentionOutputBias, Scope::kAttentionLayer,
     LAYER "self_attn.o_proj.bias", kHidden, nullptr, kOutputBiased},
    {Role::kQueryNorm, Scope::kAttentionLayer, LAYER "self_attn.q_norm.weight",
     kQueryNormed, nullptr, kQueryKeyNorm},
    {Role::kKeyNorm, Scope::kAttentionLayer, LAYER "self_attn.k_norm.weight",
     kKeyNormed, nullptr, kQueryKeyNorm},
};
inline constexpr TensorRow kRouterRows[] = {
    {Role::kRouter, Scope::kMoeLayer, LAYER "mlp.gate.weight", kExperts,
     kHidden},
    {Role::kRouterBias, Scope::kMoeLayer,
     LAYER "mlp.gate.e_score_correction_bias", kExperts, nullptr,
     kRouterBiased},
};
// The bias beside the gate: transformers 5's own names for models whose
// publishers have others, which it writes with save_original_format=False.
inline constexpr TensorRow kOwnRouterRows[] = {
    {Role::kRouter, Scope::kMoeLayer, LAYER "mlp.gate.weight", kExperts,
     kHidden},
    {Role::kRouterBias, Scope::kMoeLayer, LAYER "mlp.e_score_correction_bias",
     kExperts, nullptr, kRouterBiased},
};
inline constexpr TensorRow kExpertRows[] = {
    {Role::kExpertGate,
     Scope::kExpert,
     LAYER "mlp.experts.{expert}.gate_proj.weight",
     kExpert,
     kHidden,
     nullptr,
     {LAYER "mlp.experts.gate_up_proj", 0, 2}},
    {Role::kExpertUp,
     Scope::kExpert,
     LAYER "mlp.experts.{expert}.up_proj.weight",
     kExpert,
     kHidden,
     nullptr,
     {LAYER "mlp.experts.gate_up_proj", 1, 2}},
    {Role::kExpertDown,
     Scope::kExpert,
     LAYER "mlp.experts.{expert}.down_proj.weight",
     kHidden,
     kExpert,
     nullptr,
     {LAYER "mlp.experts.down_proj", 0, 1}},
};
inline constexpr TensorRow kSharedRows[] = {
    {Role::kSharedGate, Scope::kMoeLayer,
     LAYER "mlp.shared_experts.gate_proj.weight", kShared, kHidden, kSharing},
    {Role::kSharedUp, Scope::kMoeLayer,
     LAYER "mlp.shared_experts.up_proj.weight", kShared, kHidden, kSharing},
    {Role::kSharedDown, Scope::kMoeLayer,
     LAYER "mlp.shared_experts.down_proj.weight", kHidden, kShared, kSharing},
};
// Of a shared expert whose outcome is scaled (shared_scaled).
inline constexpr TensorRow kGatedSharedRows[] = {
    {Role::kSharedGate, Scope::kMoeLayer,
     LAYER "mlp.shared_expert.gate_proj.weight", kShared, kHidden, kSharing},
    {Role::kSharedUp, Scope::kMoeLayer,
     LAYER "mlp.shared_expert.up_proj.weight", kShared, kHidden, kSharing},
    {Role::kSharedDown, Scope::kMoeLayer,
     LAYER "mlp.shared_expert.down_proj.weight", kHidden, kShared, kSharing},
    {Role::kSharedScale, Scope::kMoeLayer,
     LAYER "mlp.shared_expert_gate.weight", kOne, kHidden, kSharing},
};
inline constexpr TensorRow kDenseRows[] = {
    {Role::kDenseGate, Scope::kDenseLayer, LAYER "mlp.gate_proj.weight", kDense,
     kHidden},
    {Role::kDenseUp, Scope::kDenseLayer, LAYER "mlp.up_proj.weight", kDense,
     kHidden},
    {Role::kDenseDown, Scope::kDenseLayer, LAYER "mlp.down_proj.weight",
     kHidden, kDense},
};
#undef LAYER

// Fails unless the key is missing or has the only value that can be run.
template <class T>
void Expect(const ConfigReader& json, const char* key, const T& value) {
  const Json& found = json.Value(key);
  if (found.is_null() || found == value) return;
  Fail(ErrorKind::kUnsupported, "{}: \"{}\" is {}, only {} can be run",
       json.source(), key, found.dump(), Json(value).dump());
}

// What a config means that leaves these keys out.
struct AttentionDefaults {
  int64_t max_positions = 32768;
  double rope_theta = 10000;
  // Of a head's numbers those that are rotated; nothing: all, and a config that
  // says another share can't be run.
  std::optional<double> rotated_share = std::nullopt;
  bool has_grids = false;  // as ReadRope's
};

// Sizes, embedding and final norm, as most configs have them.
ModelConfig ReadBasics(const ConfigReader& json, double rms_norm_eps = 1e-6);
// Heads, positions and rotary embedding of grouped-query attention.
void ReadGroupedAttention(const ConfigReader& json,
                          const AttentionDefaults& defaults, ModelConfig* c);
// Sizes and numbers of experts, which configs of one family have under several
// names.
void ReadExperts(const ConfigReader& json, const char* expert_size,
                 ModelConfig* c);
// DeepSeek-V3's router, which others have taken over: sigmoids with a bias in
// picking, of the best groups. What is not in config.json is as in `missing`.
void ReadSigmoidRouter(const ConfigReader& json, const RouterRule& missing,
                       ModelConfig* c);
// Which layers are `wanted`, from a list that names each so or `other`, which
// must be there.
std::vector<int64_t> ListLayers(const ConfigReader& json, const char* key,
                                const char* wanted, const char* other,
                                const ModelConfig& c);
// How many groups of experts there are, and how many are kept.
void ReadGroups(const ConfigReader& json, const RouterRule& missing,
                ModelConfig* c);

// Tables, one behind the other.
template <size_t... N>
constexpr auto JoinRows(const TensorRow (&... tables)[N]) {
  std::array<TensorRow, (N + ...)> rows{};
  auto end = rows.begin();
  ((end = std::copy_n(tables, N, end)), ...);
  return rows;
}

}  // namespace mobe
