#include "speed/expert_needs.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "model/cached_experts.h"
#include "speed/forward_operations.h"
#include "tensor/weight_view.h"

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

bool IsBases(const SizedTensor& tensor) {
  const MatrixKind* kind = KindOf(tensor.spec.role);
  return kind != nullptr && tensor.spec.role == kind->bases;
}

// The share of the bases that are packed.
double PackedBasesShare(const Outline& outline) {
  int64_t packed = 0;
  int64_t all = 0;
  for (const SizedTensor& tensor : outline.tensors) {
    if (!IsBases(tensor)) continue;
    const auto& shape = tensor.spec.shape;
    const int64_t size = shape[0] * shape[1] * shape[2];
    all += size;
    packed += tensor.packed != nullptr ? size : 0;
  }
  return all == 0 ? 0 : static_cast<double>(packed) / static_cast<double>(all);
}

// Integer products are four times as many in an instruction as those of
// float32, and a mix takes two of them (kernels/packed_mix.h): half of the time
// at best.
ExpertNeed Stored(const Outline& outline, int64_t = 0) {
  ExpertNeed need = NeedOf(outline, true);
  const Operations& operations = outline.operations;
  const double saved = PackedBasesShare(outline) * operations.mixes / 2;
  need.token_operations += 2 * (operations.fused - saved - operations.built);
  return need;
}

int64_t BuiltMatrixBytes(const Outline& outline, NumberFormat format) {
  const ModelConfig& config = outline.config;
  return WeightView{format, nullptr, config.expert_size, config.hidden_size}
      .bytes();
}

template <NumberFormat format>
ExpertNeed Built(const Outline& outline, int64_t) {
  ExpertNeed need = NeedOf(outline, false);
  const ModelConfig& config = outline.config;
  const int64_t matrix = BuiltMatrixBytes(outline, format);
  const auto kinds = static_cast<int64_t>(outline.mobe->factors.size());
  need.memory_bytes += kinds * config.num_experts * matrix;
  need.token_bytes += kinds * config.experts_per_token * matrix;
  return need;
}

// Between fused and built, by the share that is missed; but bases serve all
// misses of a token together.
template <NumberFormat format>
ExpertNeed Cached(const Outline& outline, int64_t bytes) {
  const ExpertNeed fused = Stored(outline);
  const ExpertNeed built = Built<format>(outline, bytes);
  const ModelConfig& config = outline.config;
  std::map<int64_t, int64_t> layers;  // bytes of an expert that is built
  for (const FactorShape& shape : outline.mobe->factors) {
    layers[shape.layer] += BuiltMatrixBytes(outline, format);
  }
  ExpertNeed need;
  need.memory_bytes = fused.memory_bytes;
  BuiltShare& cached = need.cached.emplace();
  for (const auto& [layer, expert] : layers) {
    const int64_t places =
        CachedExperts::Places(bytes - fused.memory_bytes, std::ssize(layers),
                              expert, config.num_experts);
    cached.built += places;
    cached.all += config.num_experts;
    need.memory_bytes += places * expert;
  }
  const double missed = 1 - cached.share();
  const double any_missed =
      1 - std::pow(cached.share(), config.experts_per_token);
  const auto mean = [&](double if_fused, double shared, double if_built) {
    return if_built + missed * (if_fused - shared - if_built) +
           any_missed * shared;
  };
  double bases = 0;
  for (const SizedTensor& tensor : outline.tensors) {
    if (IsBases(tensor)) bases += static_cast<double>(tensor.bytes);
  }
  need.token_bytes =
      std::llround(mean(static_cast<double>(fused.token_bytes), bases,
                        static_cast<double>(built.token_bytes)));
  need.token_operations =
      mean(fused.token_operations, 2 * outline.operations.shared,
           built.token_operations);
  return need;
}

ExpertNeed Streamed(const Outline& outline, int64_t) {
  constexpr int64_t kPlaces = 2;
  ExpertNeed need = Stored(outline);
  int64_t most = 0;                  // of one expert
  std::map<int64_t, int64_t> first;  // by layer, the bytes of its first expert
  for (const SizedTensor& tensor : outline.tensors) {
    if (tensor.spec.expert < 0) continue;
    need.memory_bytes -= tensor.bytes;
    if (tensor.spec.expert == 0) first[tensor.spec.layer] += tensor.bytes;
  }
  for (const auto& [layer, bytes] : first) {
    need.disk_bytes += outline.config.experts_per_token * bytes;
    most = std::max(most, bytes);
  }
  need.memory_bytes += kPlaces * most;
  return need;
}

struct Mode {
  const char* name;
  bool plain, factored;  // which models run so
  ExpertNeed (*need)(const Outline& outline, int64_t bytes);
};
constexpr Mode kModes[] = {
    {"plain", true, false, Stored},
    {"built float32", false, true, Built<NumberFormat::kF32>},
    {"built bfloat16", false, true, Built<NumberFormat::kBF16>},
    {"built int8", false, true, Built<NumberFormat::kInt8>},
    {"cached int8", false, true, Cached<NumberFormat::kInt8>},
    {"fused", false, true, Stored},
    {"streamed", true, true, Streamed}};

}  // namespace

std::vector<ExpertNeed> ListExpertNeeds(const Outline& outline, int64_t bytes) {
  std::vector<ExpertNeed> needs;
  for (const Mode& mode : kModes) {
    if (!(outline.mobe ? mode.factored : mode.plain)) continue;
    needs.push_back(mode.need(outline, bytes));
    needs.back().mode = mode.name;
  }
  return needs;
}

double DecodeBound::least() const {
  const double least = std::min(by_reading, by_arithmetic);
  return by_disk ? std::min(least, *by_disk) : least;
}

DecodeBound BoundDecode(const ExpertNeed& need, const Peaks& peaks,
                        double disk_bytes_per_second) {
  DecodeBound bound = {
      peaks.bytes_per_second / static_cast<double>(need.token_bytes),
      std::max(peaks.Product("float32"), peaks.Product("bfloat16")) /
          need.token_operations,
      {}};
  if (need.disk_bytes > 0 && disk_bytes_per_second > 0) {
    bound.by_disk =
        disk_bytes_per_second / static_cast<double>(need.disk_bytes);
  }
  return bound;
}

}  // namespace mobe
