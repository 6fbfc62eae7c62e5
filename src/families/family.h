// A model family as data: how its config.json is read, and a table of its
// tensors, with names and shapes as formulas of the config. A new family is one
// file with one such table; nothing else in the project knows tensor names.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/config.h"

namespace mobe {

// Hyperparameters, in the field's terms. Sizes count elements.
struct ModelConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // divides num_heads
  int64_t head_dim = 0;      // even, for rotary pairs
  int64_t max_positions = 0;
  double rope_theta = 0;
  float rms_norm_eps = 0;
  bool attention_bias = false;
  bool tie_embeddings = false;

  int64_t dense_size = 0;   // intermediate size of layers without experts
  int64_t expert_size = 0;  // intermediate size of one expert
  int64_t num_experts = 0;
  int64_t experts_per_token = 0;  // in [1, num_experts]
  bool norm_topk_prob = false;

  // Which layers have experts: those with (layer + 1) % moe_layer_step == 0
  // that are not listed.
  int64_t moe_layer_step = 1;
  std::vector<int64_t> dense_layers;

  bool IsMoeLayer(int64_t layer) const;
};

// What a tensor is for.
enum class Role {
  kEmbedding,
  kFinalNorm,
  kOutput,  // lm_head
  kAttentionNorm,
  kQuery,
  kKey,
  kValue,
  kAttentionOutput,
  kQueryBias,
  kKeyBias,
  kValueBias,
  kAttentionOutputBias,
  kQueryNorm,
  kKeyNorm,
  kMlpNorm,
  kRouter,
  kExpertGate,
  kExpertUp,
  kExpertDown,
  kDenseGate,
  kDenseUp,
  kDenseDown,
  // Of a factored layer, in the native format (mobe/format.h).
  kGateBases,
  kGateLeft,
  kGateRight,
  kGateAlpha,
  kUpBases,
  kUpLeft,
  kUpRight,
  kUpAlpha,
  kDownBases,
  kDownLeft,
  kDownRight,
  kDownAlpha,
};

// Which layers and experts a row of the table stands for.
enum class Scope { kModel, kLayer, kDenseLayer, kMoeLayer, kExpert };

// One dimension, as a formula.
using Dim = int64_t (*)(const ModelConfig&);

struct TensorRow {
  Role role;
  Scope scope;
  const char* name;  // "{layer}" and "{expert}" stand for the numbers
  Dim rows;
  Dim cols;                                    // null for a vector
  bool (*when)(const ModelConfig&) = nullptr;  // null: always
};

struct Family {
  const char* model_type;  // as in config.json
  // Fails as ConfigReader does, and with kUnsupported for what can't be run.
  ModelConfig (*read_config)(const ConfigReader&);
  std::span<const TensorRow> rows;
};

// Every family there is.
std::span<const Family* const> Families();
// By "model_type"; fails with kUnsupported, listing the supported ones.
const Family& FamilyOf(const ConfigReader& config);

// One tensor that a model must have.
struct TensorSpec {
  Role role;
  int64_t layer = -1;   // -1: of the whole model
  int64_t expert = -1;  // -1: of the whole layer
  std::string name;
  std::vector<int64_t> shape;
};

// All tensors of a plain (not factored) model, layer by layer.
std::vector<TensorSpec> ListTensors(const Family& family,
                                    const ModelConfig& config);

// The name of one tensor of the table.
std::string TensorName(const Family& family, Role role, int64_t layer = -1,
                       int64_t expert = -1);

// Checks that every family needs: divisibility, ranges, hidden_act.
void CheckConfig(const ModelConfig& config, const ConfigReader& reader);

}  // namespace mobe
