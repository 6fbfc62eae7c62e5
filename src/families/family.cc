#include "families/family.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "families/factored_only.h"

namespace mobe {

// Defined in the families' own files.
// NOLINTBEGIN(readability-identifier-naming)
extern const Family kQwen2Moe;
extern const Family kQwen3Moe;
extern const Family kDeepseekV2;
extern const Family kDeepseekV3;
extern const Family kKimiK2;
extern const Family kBailingMoe;
extern const Family kBailingMoeV2;
extern const Family kMixtral;
extern const Family kMiniMaxM2;
extern const Family kOlmoe;
extern const Family kGlm4Moe;
extern const Family kHyV3;
extern const Family kQwen3Next;
extern const Family kQwen35Moe;
extern const Family kQwen35MoeText;
// NOLINTEND(readability-identifier-naming)

namespace {

constexpr const Family* kRunning[] = {
    &kQwen3Moe,   &kQwen2Moe,     &kDeepseekV2, &kDeepseekV3, &kKimiK2,
    &kBailingMoe, &kBailingMoeV2, &kMixtral,    &kMiniMaxM2,  &kOlmoe,
    &kGlm4Moe,    &kHyV3,         &kQwen3Next,  &kQwen35Moe,  &kQwen35MoeText};

std::vector<const Family*> AllFamilies() {
  std::vector<const Family*> all(std::begin(kRunning), std::end(kRunning));
  for (const Family& family : FactoredOnly()) all.push_back(&family);
  return all;
}

std::string Expand(std::string name, std::string_view placeholder,
                   int64_t value) {
  const size_t at = name.find(placeholder);
  if (at != std::string::npos) {
    name.replace(at, placeholder.size(), std::to_string(value));
  }
  return name;
}

// `name` as a row has it.
std::string NameOf(const Family& family, std::string_view name, int64_t layer,
                   int64_t expert = -1) {
  constexpr std::string_view kPrefix = "model.";
  std::string own(name);
  if (name.starts_with(kPrefix)) {
    own.replace(0, kPrefix.size(), family.prefix);
  }
  return Expand(Expand(std::move(own), "{layer}", layer), "{expert}", expert);
}

bool InLayer(Scope scope, const ModelConfig& config, int64_t layer) {
  switch (scope) {
    case Scope::kModel:
      return false;
    case Scope::kLayer:
      return true;
    case Scope::kAttentionLayer:
      return !config.IsDeltaLayer(layer);
    case Scope::kDeltaLayer:
      return config.IsDeltaLayer(layer);
    case Scope::kDenseLayer:
      return !config.IsMoeLayer(layer);
    case Scope::kMoeLayer:
    case Scope::kExpert:
      return config.IsMoeLayer(layer);
  }
  return false;
}

}  // namespace

bool ModelConfig::IsMoeLayer(int64_t layer) const {
  return layer >= first_moe_layer && (layer + 1) % moe_layer_step == 0 &&
         std::find(dense_layers.begin(), dense_layers.end(), layer) ==
             dense_layers.end();
}

std::vector<int64_t> ModelConfig::MoeLayers() const {
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    if (IsMoeLayer(layer)) layers.push_back(layer);
  }
  return layers;
}

bool ModelConfig::IsDeltaLayer(int64_t layer) const {
  return attention_interval > 0
             ? (layer + 1) % attention_interval != 0
             : std::ranges::binary_search(delta_layers, layer);
}

std::span<const Family* const> Families() {
  static const std::vector<const Family*> all = AllFamilies();
  return all;
}

const Family& FamilyOf(const ConfigReader& config) {
  const std::string type = config.String("model_type", "");
  if (type.empty()) {
    Fail(ErrorKind::kUnsupported,
         "{}: no \"model_type\" in it, which says what family the model is of",
         config.source());
  }
  std::string supported;
  for (const Family* family : Families()) {
    if (type == family->model_type) return *family;
    supported += supported.empty() ? "" : ", ";
    supported += family->model_type;
  }
  Fail(ErrorKind::kUnsupported, "{}: model_type \"{}\" is not one of: {}",
       config.source(), type, supported);
}

void CheckRuns(const Family& family, const std::string& folder) {
  if (family.runs) return;
  Fail(ErrorKind::kUnsupported,
       "{}: mobe compresses, verifies and reconstructs models of type \"{}\", "
       "but can't run them; transformers runs what mobe reconstruct writes",
       folder, family.model_type);
}

std::vector<TensorSpec> ListTensors(const Family& family,
                                    const ModelConfig& config) {
  std::vector<TensorSpec> tensors;
  const auto add = [&](const TensorRow& row, int64_t layer, int64_t expert) {
    TensorSpec spec{row.role,
                    layer,
                    expert,
                    NameOf(family, row.name, layer, expert),
                    {row.rows(config)}};
    if (row.depthwise) spec.shape.push_back(1);
    if (row.cols != nullptr) spec.shape.push_back(row.cols(config));
    tensors.push_back(std::move(spec));
  };
  const auto wanted = [&](const TensorRow& row) {
    return row.when == nullptr || row.when(config);
  };
  for (const TensorRow& row : family.rows) {
    if (row.scope == Scope::kModel && wanted(row)) add(row, -1, -1);
  }
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const TensorRow& row : family.rows) {
      if (!InLayer(row.scope, config, layer) || !wanted(row)) continue;
      if (row.scope != Scope::kExpert) {
        add(row, layer, -1);
        continue;
      }
      for (int64_t expert = 0; expert < config.num_experts; ++expert) {
        add(row, layer, expert);
      }
    }
  }
  return tensors;
}

bool HasRole(const Family& family, const ModelConfig& config, Role role) {
  for (const TensorRow& row : family.rows) {
    if (row.role == role) return row.when == nullptr || row.when(config);
  }
  return false;
}

std::string TensorName(const Family& family, Role role, int64_t layer,
                       int64_t expert) {
  for (const TensorRow& row : family.rows) {
    if (row.role == role) return NameOf(family, row.name, layer, expert);
  }
  Fail(ErrorKind::kInternal, "family {} has no tensor of role {}",
       family.model_type, static_cast<int>(role));
}

std::vector<StackedSpec> ListStacked(const Family& family,
                                     const ModelConfig& config, int64_t layer) {
  std::vector<StackedSpec> list;
  for (const TensorRow& row : family.rows) {
    if (row.stacked.name == nullptr) continue;
    const std::string name = NameOf(family, row.stacked.name, layer);
    auto spec = std::ranges::find(list, name, &StackedSpec::name);
    if (spec == list.end()) {
      StackedSpec made;
      made.name = name;
      made.rows = row.rows(config);
      made.cols = row.cols(config);
      made.parts.resize(static_cast<size_t>(row.stacked.parts));
      made.always = row.stacked.always;
      made.stacking = row.stacked.stacking;
      made.shape = {config.num_experts, row.stacked.parts * made.rows,
                    made.cols};
      if (made.stacking != Stacking::kParts) {
        std::swap(made.shape[1], made.shape[2]);
      }
      if (row.stacked.is_matrix) {
        made.shape = {made.shape[0] * made.shape[1], made.shape[2]};
      }
      spec = list.insert(spec, std::move(made));
    }
    spec->parts[static_cast<size_t>(row.stacked.part)] = row.role;
  }
  return list;
}

PartPlace PlaceOf(const StackedSpec& spec, int64_t part) {
  const auto parts = std::ssize(spec.parts);
  switch (spec.stacking) {
    case Stacking::kParts:
      return {part * spec.rows * spec.cols, spec.cols, 1};
    case Stacking::kPartsTransposed:
      return {part * spec.rows, 1, parts * spec.rows};
    case Stacking::kTurnsTransposed:
      return {part, parts, parts * spec.rows};
  }
  return {};
}

bool IsNotRun(const ModelConfig& config, std::string_view tensor) {
  constexpr std::string_view kLayers = "model.layers.";
  if (tensor.ends_with(".rotary_emb.inv_freq") || tensor.starts_with("mtp.")) {
    return true;
  }
  if (config.has_vision && tensor.starts_with("model.visual.")) return true;
  if (!tensor.starts_with(kLayers)) return false;
  tensor.remove_prefix(kLayers.size());
  int64_t layer = 0;
  const char* const end = tensor.data() + tensor.size();
  const auto [dot, error] = std::from_chars(tensor.data(), end, layer);
  return error == std::errc() && dot != end && *dot == '.' &&
         layer >= config.num_layers &&
         layer < config.num_layers + config.extra_layers;
}

namespace {

// Keys of config.json that say nothing of what a model computes when it is run,
// as patterns (ConfigReader::RefuseOthers).
constexpr const char* kHarmlessKeys[] = {
    // Who wrote it, and which classes read it; names with _ are for those.
    "architectures", "auto_map", "transformers_version", "transformers.js*",
    "unsloth_*", "tokenizer_class", "_*", "name_or_path",
    // The dtype that classes load weights in; ours is that of the weights.
    "torch_dtype", "dtype", "torchscript", "use_bfloat16",
    // Training.
    "initializer_*", "*dropout*", "*_loss*", "seq_aux", "pretraining_tp",
    "ep_size", "gradient_checkpointing*",
    // What a forward pass returns besides logits, and how it stores its cache.
    "output_*", "return_dict*", "use_cache", "use_flash*", "is_decoder",
    "chunk_size_feed_forward",
    // Generation, of which mobe reads what it needs elsewhere, and other tasks.
    "*_token_id", "*_token_ids", "max_length", "min_length", "do_sample",
    "early_stopping", "num_beam*", "diversity_penalty", "temperature", "top_k",
    "top_p", "typical_p", "repetition_penalty", "length_penalty",
    "*no_repeat_ngram_size", "bad_words_ids", "num_return_sequences",
    "id2label", "label2id", "num_labels", "problem_type",
    // What others follow from it (head_dim where no family asks for it), or
    // what
    // is not in use (CheckConfig requires that).
    "head_dim", "qk_head_dim", "sliding_window", "max_window_layers",
    // Read by mobe/format.h, mobe/modeling_file.h and io/fp8.h.
    "num_B", "activation", "mobe", "plain_auto_map", "quantization_config"};

}  // namespace

void CheckConfig(const ModelConfig& config, const ConfigReader& reader) {
  const std::string act = reader.String("hidden_act", "silu");
  if (act != "silu") {
    Fail(ErrorKind::kUnsupported, "{}: hidden_act \"{}\", only silu is known",
         reader.source(), act);
  }
  if (reader.Bool("use_sliding_window", false)) {
    Fail(ErrorKind::kUnsupported, "{}: \"use_sliding_window\" can't be run yet",
         reader.source());
  }
  const Json& types = reader.Value("layer_types");
  for (const Json& type : types.is_array() ? types : Json::array()) {
    const bool is_delta = config.HasDeltaNets() && type == "linear_attention";
    if (type == "full_attention" || is_delta) continue;
    Fail(ErrorKind::kUnsupported,
         "{}: \"layer_types\" has {}, only \"full_attention\" can be run",
         reader.source(), Excerpt(type));
  }
  reader.RefuseOthers(kHarmlessKeys);
  if (!(config.rms_norm_eps >= 0)) {
    reader.Reject("rms_norm_eps", "0 or above");
  }
  // So that no product of sizes, nor a sum of two, exceeds 63 bits.
  constexpr int64_t kMaxHeads = int64_t{1} << 20;
  if (config.num_heads > kMaxHeads) {
    reader.Reject("num_attention_heads", fmt::format("at most {}", kMaxHeads));
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    reader.Reject("num_attention_heads",
                  fmt::format("a multiple of num_key_value_heads ({})",
                              config.num_kv_heads));
  }
  if (config.experts_per_token > config.num_experts) {
    reader.Reject(
        "num_experts_per_tok",
        fmt::format("at most the number of experts ({})", config.num_experts));
  }
}

}  // namespace mobe
