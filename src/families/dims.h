// The dimensions and conditions that several families' tables use.
#pragma once

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

}  // namespace mobe
