#include "mobe/open_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <string_view>
#include <unordered_set>

#include "base/error.h"
#include "io/fp8.h"
#include "mobe/parts.h"
#include "mobe/stacked.h"

namespace mobe {
namespace {

// Every layer and expert has a tensor at least, so their number bounds what a
// hostile config can make us list.
void CheckCount(const Checkpoint& checkpoint, const char* what, int64_t value) {
  const auto tensors = static_cast<int64_t>(checkpoint.tensors().size());
  if (value <= tensors) return;
  Fail(ErrorKind::kCorruptFile,
       "{}: {} is {}, but the folder holds only {} tensors",
       checkpoint.config_path(), what, value, tensors);
}

void CheckExperts(const Checkpoint& checkpoint, const ModelConfig& config) {
  int64_t experts = 0;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (config.IsMoeLayer(layer)) experts += config.num_experts;
    CheckCount(checkpoint, "the number of experts in all layers", experts);
  }
}

// What is in no table may still be run by what the model was made for, and
// would be left out of the result without a word.
void CheckUnknown(const OpenedModel& model) {
  std::unordered_set<std::string_view> known;
  for (const TensorSpec& spec : model.tensors) known.insert(spec.name);
  // Of a tied head that is stored CheckTiedHead knows.
  const std::string head = TensorName(*model.family, Role::kOutput);
  if (model.config.tie_embeddings) known.insert(head);
  for (const TensorView* tensor : model.checkpoint.tensors()) {
    const TensorView* matrix = tensor->scaled ? tensor->scaled : tensor;
    if (known.contains(matrix->name) || tensor->elements() == 0 ||
        IsNotRun(model.config, matrix->name)) {
      continue;
    }
    Fail(ErrorKind::kUnsupported,
         "{}: tensor {} is of no kind that a model of this config.json has; "
         "without it the model would compute something else",
         model.checkpoint.FileOf(*tensor), Excerpt(tensor->name));
  }
}

// A head that is stored though config.json says that it is the embedding.
// transformers 4 passes it over, 5 uses it when it differs.
void CheckTiedHead(const OpenedModel& model) {
  if (!model.config.tie_embeddings) return;
  const TensorView* head =
      model.checkpoint.Find(TensorName(*model.family, Role::kOutput));
  if (head == nullptr) return;
  const TensorView& embedding = model.At(Role::kEmbedding);
  if (head->dtype == embedding.dtype &&
      std::ranges::equal(head->data, embedding.data)) {
    return;
  }
  Fail(
      ErrorKind::kUnsupported,
      "{}: tensor {} differs from {}, but config.json says that it is the same "
      "(\"tie_word_embeddings\" true): set that to false to use it, as "
      "transformers 5 does, or remove the tensor, which transformers 4 passes "
      "over",
      model.checkpoint.FileOf(*head), head->name, embedding.name);
}

bool HasExperts(const Family& family, const ModelConfig& config,
                const Checkpoint& checkpoint, int64_t layer) {
  const auto is_there = [&](const TensorRow& row) {
    return checkpoint.Find(TensorName(family, row.role, layer, 0)) != nullptr;
  };
  return std::ranges::any_of(family.rows, is_there) ||
         HasStacked(family, config, checkpoint, layer);
}

// Of a family that is run the embedding and a router tell which names there
// are.
void FindNames(OpenedModel* model) {
  const ModelConfig& config = model->config;
  int64_t layer = 0;
  while (layer + 1 < config.num_layers && !config.IsMoeLayer(layer)) ++layer;
  const auto is_named = [&](const Family& family) {
    return std::ranges::all_of(
        std::array{TensorName(family, Role::kEmbedding),
                   TensorName(family, Role::kRouter, layer)},
        [&](const std::string& name) {
          return model->checkpoint.Find(name) != nullptr;
        });
  };
  const Family* other = model->family->otherwise;
  if (other != nullptr && !is_named(*model->family) && is_named(*other)) {
    model->family = other;
  }
}

// Of a family that is not run the tensors tell under which names its experts
// are, and which layers have any.
void FindExperts(OpenedModel* model) {
  ModelConfig* config = &model->config;
  for (const Family* family = model->family; family != nullptr;
       family = family->otherwise) {
    config->dense_layers.clear();
    for (int64_t layer = 0; layer < config->num_layers; ++layer) {
      if (!HasExperts(*family, *config, model->checkpoint, layer)) {
        config->dense_layers.push_back(layer);
      }
    }
    if (std::ssize(config->dense_layers) == config->num_layers) continue;
    model->family = family;
    return;
  }
  const int64_t last = config->num_layers - 1;
  Fail(ErrorKind::kMissing,
       "{}: no layer has experts, such as tensor {}, which a model of type {} "
       "is expected to have",
       model->checkpoint.folder().string(),
       TensorName(*model->family, Role::kExpertGate, last, 0),
       model->family->model_type);
}

// A shape of attention's that config.json doesn't ask for may be right where it
// does not say how large heads are.
void CheckHeadDim(const OpenedModel& model, const TensorSpec& spec,
                  const std::string& fault) {
  const ModelConfig& c = model.config;
  const bool of_heads =
      spec.role >= Role::kQuery && spec.role <= Role::kKeyNorm;
  const TensorView* tensor = model.checkpoint.Find(spec.name);
  if (!c.head_dim_inferred || !of_heads || tensor == nullptr ||
      tensor->shape == spec.shape) {
    return;
  }
  Fail(
      ErrorKind::kMissing,
      "{}: \"head_dim\" is missing, and hidden_size / num_attention_heads, {}, "
      "does not fit: {}",
      model.checkpoint.config_path(), c.head_dim, fault);
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
  return checkpoint.At(name(*family, layer, *kind, expert_or_group));
}

std::optional<std::string> CheckTensor(const Checkpoint& checkpoint,
                                       const TensorSpec& spec) {
  if (const std::string* fault = checkpoint.IndexFault(spec.name)) {
    return *fault;
  }
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
  if (tensor->packed != nullptr || tensor->code_bits != 0) return std::nullopt;
  if (!IsFloat(tensor->dtype) || tensor->dtype == DType::kF8E8M0) {
    return fmt::format(
        "{}: tensor {} has dtype {}, expected F32, F16, BF16, or F8_E4M3 with "
        "scales",
        checkpoint.FileOf(*tensor), spec.name, DTypeName(tensor->dtype));
  }
  if (tensor->dtype == DType::kF8E4M3 && tensor->scales == nullptr) {
    return fmt::format(
        "{}: tensor {} is F8_E4M3, but its scales, tensor {}{}, "
        "are not there",
        checkpoint.FileOf(*tensor), spec.name, spec.name, kScalesEndings[0]);
  }
  return std::nullopt;
}

OpenedModel OpenModel(const std::filesystem::path& folder) {
  OpenedModel model{Checkpoint(folder), nullptr, {}, {}, {}};
  const ConfigReader reader(model.checkpoint.config(),
                            model.checkpoint.config_path());
  model.family = &FamilyOf(reader);
  model.config = model.family->read_config(reader);
  CheckCount(model.checkpoint, "the number of layers", model.config.num_layers);
  if (model.family->runs) {
    FindNames(&model);
  } else {
    FindExperts(&model);
  }
  SplitStacked(*model.family, model.config, &model.checkpoint);
  CheckExperts(model.checkpoint, model.config);
  model.mobe = DetectFormat(*model.family, model.checkpoint, model.config);
  model.tensors = model.mobe
                      ? ListTensors(*model.family, model.config, *model.mobe)
                      : ListTensors(*model.family, model.config);
  for (const TensorSpec& spec : model.tensors) {
    if (QuantPartOf(spec) != nullptr) {
      model.checkpoint.LinkPacked(spec.name, spec.shape);
    }
    if (auto fault = CheckTensor(model.checkpoint, spec)) {
      const bool there = model.checkpoint.Find(spec.name) != nullptr;
      CheckHeadDim(model, spec, *fault);
      Fail(there ? ErrorKind::kCorruptFile : ErrorKind::kMissing, "{}", *fault);
    }
  }
  if (model.family->runs) {
    CheckTiedHead(model);
    CheckUnknown(model);
  }
  return model;
}

}  // namespace mobe
