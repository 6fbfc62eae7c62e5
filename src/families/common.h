// What the families have in common: refusing what can't be run; of their
// tables dimensions, conditions, and the rows of everything but embedding and
// attention.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "base/error.h"
#include "families/family.h"

namespace mobe {

inline constexpr Dim kVocab = [](const ModelConfig& c) { return c.vocab_size; };
inline constexpr Dim kHidden = [](const ModelConfig& c) {
  return c.hidden_size;
};
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
inline constexpr When kSharing = [](const ModelConfig& c) {
  return c.shared_size > 0;
};

#define LAYER "model.layers.{layer}."
inline constexpr TensorRow kCommonRows[] = {
    {Role::kFinalNorm, Scope::kModel, "model.norm.weight", kHidden, nullptr},
    {Role::kOutput, Scope::kModel, "lm_head.weight", kVocab, kHidden, kUntied},
    {Role::kAttentionNorm, Scope::kLayer, LAYER "input_layernorm.weight",
     kHidden, nullptr},
    {Role::kMlpNorm, Scope::kLayer, LAYER "post_attention_layernorm.weight",
     kHidden, nullptr},
    {Role::kRouter, Scope::kMoeLayer, LAYER "mlp.gate.weight", kExperts,
     kHidden},
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
    {Role::kSharedGate, Scope::kMoeLayer,
     LAYER "mlp.shared_experts.gate_proj.weight", kShared, kHidden, kSharing},
    {Role::kSharedUp, Scope::kMoeLayer,
     LAYER "mlp.shared_experts.up_proj.weight", kShared, kHidden, kSharing},
    {Role::kSharedDown, Scope::kMoeLayer,
     LAYER "mlp.shared_experts.down_proj.weight", kHidden, kShared, kSharing},
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

// A family's table: its own rows, and behind them the common ones.
template <size_t N>
constexpr auto WithCommonRows(const TensorRow (&own)[N]) {
  std::array<TensorRow, N + std::size(kCommonRows)> rows{};
  std::copy_n(own, N, rows.begin());
  std::copy_n(kCommonRows, std::size(kCommonRows), rows.begin() + N);
  return rows;
}

}  // namespace mobe
