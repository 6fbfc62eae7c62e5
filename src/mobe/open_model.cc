#include "mobe/open_model.h"

#include <fmt/ranges.h>

#include <charconv>
#include <string>
#include <string_view>
#include <unordered_set>

#include "base/error.h"
#include "io/fp8.h"

namespace mobe {
namespace {

// Every layer and expert has a tensor at least, so their number bounds what a
// hostile config can make us list.
void CheckCounts(const Checkpoint& checkpoint, const ModelConfig& config) {
  const auto tensors = static_cast<int64_t>(checkpoint.tensors().size());
  const auto check = [&](const char* what, int64_t value) {
    if (value <= tensors) return;
    Fail(ErrorKind::kCorruptFile,
         "{}: {} is {}, but the folder holds only {} tensors",
         checkpoint.config_path(), what, value, tensors);
  };
  check("the number of layers", config.num_layers);
  int64_t experts = 0;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (config.IsMoeLayer(layer)) experts += config.num_experts;
    check("the number of experts in all layers", experts);
  }
}

// A tensor in a layer that is run, but of which the table knows nothing, would
// be left out of the result without a word. Behind those layers may come what
// is not run (multi-token prediction).
void CheckUnknown(const Checkpoint& checkpoint, const ModelConfig& config,
                  const std::vector<TensorSpec>& specs) {
  std::unordered_set<std::string_view> known;
  for (const TensorSpec& spec : specs) known.insert(spec.name);
  constexpr std::string_view kLayers = "model.layers.";
  for (const TensorView* tensor : checkpoint.tensors()) {
    const std::string_view name = tensor->name;
    if (!name.starts_with(kLayers) || known.contains(name)) continue;
    if (tensor->scaled != nullptr && known.contains(tensor->scaled->name)) {
      continue;
    }
    // Older versions of transformers stored what follows from config.json.
    if (name.ends_with(".rotary_emb.inv_freq")) continue;
    int64_t layer = 0;
    const char* begin = name.data() + kLayers.size();
    const auto [end, error] =
        std::from_chars(begin, name.data() + name.size(), layer);
    if (error != std::errc() || layer >= config.num_layers) continue;
    Fail(ErrorKind::kUnsupported,
         "{}: tensor {} is of no kind that a model of this config.json has; "
         "it can't be run",
         checkpoint.FileOf(*tensor), name);
  }
}

}  // namespace

const TensorView& OpenedModel::At(Role role, int64_t layer,
                                  int64_t expert_or_group) const {
  const MatrixKind* kind = KindOf(role);
  if (kind == nullptr || role == kind->expert) {
    return checkpoint.At(TensorName(*family, role, layer, expert_or_group));
  }
  const auto name = role == kind->bases   ? BasesName
                    : role == kind->left  ? LeftName
                    : role == kind->right ? RightName
                                          : AlphaName;
  return checkpoint.At(name(layer, *kind, expert_or_group));
}

std::optional<std::string> CheckTensor(const Checkpoint& checkpoint,
                                       const TensorSpec& spec) {
  const TensorView* tensor = checkpoint.Find(spec.name);
  if (tensor == nullptr) {
    return fmt::format("{}: no tensor {}, expected one of shape {}",
                       checkpoint.folder().string(), spec.name, spec.shape);
  }
  if (tensor->shape != spec.shape) {
    return fmt::format("{}: tensor {} has shape {}, expected {} by config.json",
                       checkpoint.FileOf(*tensor), spec.name, tensor->shape,
                       spec.shape);
  }
  if (!IsFloat(tensor->dtype)) {
    return fmt::format(
        "{}: tensor {} has dtype {}, expected F32, F16, BF16, or F8_E4M3 with "
        "scales",
        checkpoint.FileOf(*tensor), spec.name, DTypeName(tensor->dtype));
  }
  if (tensor->dtype == DType::kF8E4M3 && tensor->scales == nullptr) {
    return fmt::format(
        "{}: tensor {} is F8_E4M3, but its scales, tensor {}, "
        "are not there",
        checkpoint.FileOf(*tensor), spec.name, ScalesName(spec.name));
  }
  return std::nullopt;
}

OpenedModel OpenModel(const std::filesystem::path& folder) {
  OpenedModel model{Checkpoint(folder), nullptr, {}, {}, {}};
  const ConfigReader reader(model.checkpoint.config(),
                            model.checkpoint.config_path());
  model.family = &FamilyOf(reader);
  model.config = model.family->read_config(reader);
  CheckCounts(model.checkpoint, model.config);
  model.mobe = DetectFormat(model.checkpoint, model.config);
  model.tensors = model.mobe
                      ? ListTensors(*model.family, model.config, *model.mobe)
                      : ListTensors(*model.family, model.config);
  for (const TensorSpec& spec : model.tensors) {
    if (auto fault = CheckTensor(model.checkpoint, spec)) {
      Fail(model.checkpoint.Find(spec.name) == nullptr
               ? ErrorKind::kMissing
               : ErrorKind::kCorruptFile,
           "{}", *fault);
    }
  }
  CheckUnknown(model.checkpoint, model.config, model.tensors);
  return model;
}

}  // namespace mobe
