// The settings with which the paper compressed the models that it names: what
// compress does when it is told nothing else. docs/presets.md lists them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "compress/compress.h"

namespace mobe {

struct Preset {
  const char* name;
  // What tells the model: from its config.json.
  const char* model_type;
  int64_t hidden_size;
  int64_t num_layers;
  int64_t num_experts;
  int64_t expert_size;
  // What is set: gate and up of every layer with experts, rank expert_size.
  int64_t num_bases;  // of all groups
  int64_t groups;
  Activation activation;
};

// Sources. Numbers of bases and groups: arXiv 2508.05257, section 4.1. The
// paper names silu and tanh but not which model had which (section 4.4); that
// is taken from the README of the reference implementation, and where it names
// none, silu, the default of its scripts.
std::span<const Preset> Presets();
inline constexpr char kPresetSource[] = "arXiv 2508.05257, section 4.1";

// Null for a model that is in no row of the table.
const Preset* FindPreset(std::string_view model_type,
                         const ModelConfig& config);

// What the user has set; a preset leaves it as it is.
struct GivenOptions {
  bool bases = false;  // by their number or by a ratio
  bool groups = false;
  bool activation = false;
};

// Sets what is not given to the model's preset, and options->preset. Does
// nothing when there is none, or when the options ask for another form than the
// paper's: for other kinds, ranks, sparse alpha or an automatic split.
void UsePreset(const OpenedModel& model, const GivenOptions& given,
               CompressOptions* options);

}  // namespace mobe
