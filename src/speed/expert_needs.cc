#include "speed/expert_needs.h"

#include <algorithm>

#include "speed/forward_operations.h"

namespace mobe {
namespace {

const FactorShape* ShapeOf(const Outline& outline, const TensorSpec& spec) {
  const MatrixKind* kind = KindOf(spec.role);
  return kind == nullptr || !outline.mobe
             ? nullptr
             : outline.mobe->Find(spec.layer, *kind);
}

// Of a tensor, for a token. The first expert stands for all.
int64_t TokenBytes(const Outline& outline, const SizedTensor& tensor) {
  const TensorSpec& spec = tensor.spec;
  const MatrixKind* kind = KindOf(spec.role);
  if (spec.expert >= 0) {
    return spec.expert == 0 ? tensor.bytes * outline.config.experts_per_token
                            : 0;
  }
  const bool head =
      spec.role == Role::kOutput ||
      (spec.role == Role::kEmbedding && outline.config.tie_embeddings);
  const bool vector =
      spec.shape.size() < 2 || (kind != nullptr && spec.role == kind->alpha);
  return head || (spec.layer >= 0 && !vector) ? tensor.bytes : 0;
}

// Adds what the experts are as they are stored, or leaves out what is factored.
ExpertNeed NeedOf(const Outline& outline, bool with_factors) {
  ExpertNeed need;
  for (const SizedTensor& tensor : outline.tensors) {
    if (!with_factors && ShapeOf(outline, tensor.spec) != nullptr) continue;
    need.memory_bytes += tensor.bytes;
    need.token_bytes += TokenBytes(outline, tensor);
  }
  need.token_operations = ForwardOperations(outline.config, 1, 0, 1);
  return need;
}

ExpertNeed Stored(const Outline& outline) {
  ExpertNeed need = NeedOf(outline, true);
  need.token_operations +=
      2 * (outline.operations.fused - outline.operations.built);
  return need;
}

template <DType dtype>
ExpertNeed Built(const Outline& outline) {
  ExpertNeed need = NeedOf(outline, false);
  const ModelConfig& config = outline.config;
  const int64_t matrix =
      config.expert_size * config.hidden_size * DTypeSize(dtype);
  const auto kinds = static_cast<int64_t>(outline.mobe->factors.size());
  need.memory_bytes += kinds * config.num_experts * matrix;
  need.token_bytes += kinds * config.experts_per_token * matrix;
  return need;
}

struct Mode {
  const char* name;
  bool factored;  // of factored models; false: of plain ones
  ExpertNeed (*need)(const Outline& outline);
};
constexpr Mode kModes[] = {{"plain", false, Stored},
                           {"built float32", true, Built<DType::kF32>},
                           {"built bfloat16", true, Built<DType::kBF16>},
                           {"fused", true, Stored}};

}  // namespace

std::vector<ExpertNeed> ListExpertNeeds(const Outline& outline) {
  std::vector<ExpertNeed> needs;
  for (const Mode& mode : kModes) {
    if (mode.factored != outline.mobe.has_value()) continue;
    needs.push_back(mode.need(outline));
    needs.back().mode = mode.name;
  }
  return needs;
}

double DecodeBound::both() const { return std::min(by_reading, by_arithmetic); }

DecodeBound BoundDecode(const ExpertNeed& need, const Peaks& peaks) {
  return {peaks.bytes_per_second / static_cast<double>(need.token_bytes),
          peaks.Product("float32") / need.token_operations};
}

}  // namespace mobe
