#include "mobe/mixed_model.h"

#include <algorithm>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "mobe/packed_model.h"

namespace mobe {
namespace {

void CheckAlike(const OpenedModel& plain, const OpenedModel& factored) {
  CheckIsOriginal(plain);
  CheckNotQuantised(factored);
  const ModelConfig& a = plain.config;
  const ModelConfig& b = factored.config;
  const bool alike =
      plain.family == factored.family && factored.mobe &&
      a.num_layers == b.num_layers && a.num_experts == b.num_experts &&
      a.hidden_size == b.hidden_size && a.expert_size == b.expert_size;
  if (alike) return;
  Fail(ErrorKind::kUserInput, "{}: is no factored form of {}",
       factored.checkpoint.folder().string(),
       plain.checkpoint.folder().string());
}

void CheckSameActivation(const OpenedModel& first, const OpenedModel& other) {
  if (first.mobe->activation == other.mobe->activation) return;
  Fail(ErrorKind::kUserInput,
       "{} has {} between bases and A, {} has {}; a model has one of them",
       first.checkpoint.folder().string(),
       ActivationName(first.mobe->activation),
       other.checkpoint.folder().string(),
       ActivationName(other.mobe->activation));
}

std::set<int64_t> MixableLayers(const OpenedModel& factored) {
  std::set<int64_t> layers;
  if (!factored.mobe) return layers;
  for (const int64_t layer : factored.mobe->Layers()) {
    if (factored.Factored(layer, kGateKind) != nullptr &&
        factored.Factored(layer, kUpKind) != nullptr &&
        factored.Factored(layer, kDownKind) == nullptr) {
      layers.insert(layer);
    }
  }
  return layers;
}

}  // namespace

void CheckNotQuantised(const OpenedModel& model) {
  if (!HasPacked(model)) return;
  Fail(ErrorKind::kUserInput,
       "{}: is quantised already; give the model that it was made from",
       model.checkpoint.folder().string());
}

void CheckIsOriginal(const OpenedModel& model) {
  CheckNotQuantised(model);
  if (!model.mobe) return;
  Fail(ErrorKind::kUserInput,
       "{}: is factored already; give the original, and this one as the "
       "factored form",
       model.checkpoint.folder().string());
}

OpenedModel MixModels(OpenedModel plain, std::vector<FactoredLayers> factored) {
  MobeFormat format;
  for (const auto& [model, layers] : factored) {
    CheckAlike(plain, model);
    CheckSameActivation(factored.front().model, model);
    format.activation = model.mobe->activation;
    for (const FactorShape& shape : model.mobe->factors) {
      if (layers.contains(shape.layer)) format.factors.push_back(shape);
    }
  }
  if (format.factors.empty()) return plain;
  std::ranges::stable_sort(format.factors, {}, &FactorShape::layer);
  OpenedModel mixed = WithFactors(std::move(plain), std::move(format), {});
  for (auto& [model, layers] : factored) {
    std::unordered_set<std::string> taken;
    for (const TensorSpec& spec : mixed.tensors) {
      const MatrixKind* kind = KindOf(spec.role);
      if (kind == &kGateKind || kind == &kUpKind) {
        if (layers.contains(spec.layer)) taken.insert(spec.name);
      }
    }
    mixed.checkpoint.Take(
        std::move(model.checkpoint),
        [&](const std::string& name) { return taken.contains(name); });
  }
  return mixed;
}

OpenedModel MixModels(OpenedModel plain, OpenedModel factored) {
  std::vector<FactoredLayers> all;
  std::set<int64_t> layers = MixableLayers(factored);
  all.push_back({std::move(factored), std::move(layers)});
  return MixModels(std::move(plain), std::move(all));
}

OpenedModel WithFactors(OpenedModel plain, MobeFormat format,
                        const std::vector<std::filesystem::path>& files) {
  OpenedModel mixed = std::move(plain);
  mixed.tensors = ListTensors(*mixed.family, mixed.config, format);
  mixed.mobe = std::move(format);
  for (const auto& file : files) mixed.checkpoint.Take(SafetensorsFile(file));
  return mixed;
}

}  // namespace mobe
