#include "compress/presets.h"

#include <algorithm>
#include <string>

namespace mobe {
namespace {

constexpr Activation kSilu = Activation::kSilu;
constexpr Activation kTanh = Activation::kTanh;

// Kimi-K2 bears the model type of DeepSeek-V3 where it was converted to run
// without code of its own, by the reference, say.
constexpr Preset kPresets[] = {
    {"Qwen3-30B-A3B", "qwen3_moe", 2048, 48, 128, 768, 32, 1, kSilu},
    {"Qwen3-235B-A22B", "qwen3_moe", 4096, 94, 128, 1536, 32, 1, kSilu},
    {"DeepSeek-V3", "deepseek_v3", 7168, 61, 256, 2048, 64, 1, kTanh},
    {"Kimi-K2", "kimi_k2", 7168, 61, 384, 2048, 128, 2, kSilu},
    {"Kimi-K2", "deepseek_v3", 7168, 61, 384, 2048, 128, 2, kSilu},
    {"DeepSeek-V2-Lite", "deepseek_v2", 2048, 27, 64, 1408, 4, 1, kSilu},
    {"Ling-Lite", "bailing_moe", 2048, 28, 64, 1408, 4, 1, kSilu}};

bool HasPaperForm(const CompressOptions& options) {
  return std::ranges::is_permutation(options.kinds, CompressOptions().kinds) &&
         !options.rank && options.basis_rank == 0 && options.max_alphas == 0 &&
         options.split == Split::kEven;
}

}  // namespace

std::span<const Preset> Presets() { return kPresets; }

const Preset* FindPreset(std::string_view model_type,
                         const ModelConfig& config) {
  for (const Preset& preset : kPresets) {
    if (model_type == preset.model_type &&
        config.hidden_size == preset.hidden_size &&
        config.num_layers == preset.num_layers &&
        config.num_experts == preset.num_experts &&
        config.expert_size == preset.expert_size) {
      return &preset;
    }
  }
  return nullptr;
}

void UsePreset(const OpenedModel& model, const GivenOptions& given,
               CompressOptions* options) {
  const ConfigReader reader(model.checkpoint.config(),
                            model.checkpoint.config_path());
  const Preset* preset =
      FindPreset(reader.String("model_type", ""), model.config);
  if (preset == nullptr || !HasPaperForm(*options)) return;
  std::string own;  // what is not the preset's
  const auto set = [&](bool is_given, const char* what, const auto& value,
                       auto* to) {
    if (is_given) {
      own += fmt::format("{}{}", own.empty() ? ", but for " : " and ", what);
    } else {
      *to = value;
    }
  };
  set(given.bases, "the number of bases", preset->num_bases,
      &options->num_bases);
  set(given.groups, "the groups", preset->groups, &options->groups);
  set(given.activation, "the activation", preset->activation,
      &options->activation);
  options->preset = fmt::format("{} ({}){}", preset->name, kPresetSource, own);
}

}  // namespace mobe
