#include "mobe/tensors.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/parallel.h"
#include "io/fp8.h"

namespace mobe {
namespace {

// Sample standard deviation of all weights of the experts, whose matrices have
// that size, as the reference scales them. Asks for each matrix twice.
double StandardDeviation(
    int64_t experts, int64_t size,
    const std::function<const float*(int64_t expert)>& matrix_of) {
  const int64_t count = experts * size;
  double sum = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const float* matrix = matrix_of(e);
    for (int64_t i = 0; i < size; ++i) sum += matrix[i];
  }
  const double mean = sum / static_cast<double>(count);
  double squares = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const float* matrix = matrix_of(e);
    for (int64_t i = 0; i < size; ++i) {
      squares += (matrix[i] - mean) * (matrix[i] - mean);
    }
  }
  return count < 2 ? 0 : std::sqrt(squares / static_cast<double>(count - 1));
}

// Bases, or a factor of them, of all groups one behind the other; `size`
// numbers for each basis.
Buffer<float> LoadShared(const OpenedModel& model, const FactorShape& shape,
                         Role role, int64_t size) {
  Buffer<float> values(shape.num_bases * size);
  float* to = values.data();
  for (const ExpertGroup& group : GroupsOf(model.config, shape)) {
    const TensorView& tensor = model.At(role, shape.layer, group.index);
    LoadFloats(tensor, to);
    to += tensor.elements();
  }
  return values;
}

// [experts, num_bases], with zeros outside of the groups.
Buffer<float> LoadAlpha(const OpenedModel& model, const FactorShape& shape) {
  const int64_t m = shape.num_bases;
  const int64_t in_group = m / shape.groups;
  Buffer<float> alpha(model.config.num_experts * m);
  std::fill(alpha.begin(), alpha.end(), 0.0f);
  int64_t basis = 0;  // first of the group
  for (const ExpertGroup& group : GroupsOf(model.config, shape)) {
    const TensorView& tensor =
        model.At(shape.kind->alpha, shape.layer, group.index);
    Buffer<float> values(tensor.elements());
    LoadFloats(tensor, values.data());
    for (int64_t e = 0; e < group.count; ++e) {
      std::copy_n(values.data() + e * in_group, in_group,
                  alpha.data() + (group.first + e) * m + basis);
    }
    basis += in_group;
  }
  return alpha;
}

}  // namespace

int64_t FirstNotFinite(const TensorView& tensor) {
  if (!IsFloat(tensor.dtype)) return -1;
  constexpr int64_t kPiece = 4096;
  float values[kPiece];
  for (int64_t begin = 0; begin < tensor.elements(); begin += kPiece) {
    const int64_t count = std::min(kPiece, tensor.elements() - begin);
    LoadFloats(tensor, begin, count, values);
    for (int64_t i = 0; i < count; ++i) {
      if (!std::isfinite(values[i])) return begin + i;
    }
  }
  return -1;
}

void CheckFinite(const OpenedModel& model, const TensorView& tensor) {
  const int64_t at = FirstNotFinite(tensor);
  if (at < 0) return;
  float value = 0;
  LoadFloats(tensor, at, 1, &value);
  Fail(ErrorKind::kCorruptFile,
       "{}: tensor {} holds a weight that is not finite ({} at element {}); "
       "the model can't be factored",
       model.checkpoint.FileOf(tensor), tensor.name, value, at);
}

void LoadMatrix(const OpenedModel& model, int64_t layer, const MatrixKind& kind,
                int64_t expert, float* matrix) {
  const TensorView& tensor = model.At(kind.expert, layer, expert);
  if (!kind.transposed) {
    LoadFloats(tensor, matrix);
    return;
  }
  thread_local Buffer<float> stored;
  stored.Resize(tensor.elements());
  LoadFloats(tensor, stored.data());
  Transpose(stored.data(), tensor.shape[0], tensor.shape[1], matrix);
}

FitTarget LoadTarget(const OpenedModel& model, int64_t layer,
                     const MatrixKind& kind) {
  return LoadTarget(model, layer, kind, {0, model.config.num_experts});
}

FitTarget LoadTarget(const OpenedModel& model, int64_t layer,
                     const MatrixKind& kind, const ExpertGroup& group) {
  FitTarget target;
  target.experts = group.count;
  target.rows = model.config.expert_size;
  target.cols = model.config.hidden_size;
  target.weights.Resize(target.experts * target.matrix_size());
  ParallelFor(target.experts, [&](int64_t e) {
    const int64_t expert = group.first + e;
    CheckFinite(model, model.At(kind.expert, layer, expert));
    LoadMatrix(model, layer, kind, expert,
               target.weights.data() + e * target.matrix_size());
  });
  Buffer<float> other;
  const auto matrix_of = [&](int64_t expert) {
    const int64_t e = expert - group.first;
    if (e >= 0 && e < group.count) return target.matrix(e);
    other.Resize(target.matrix_size());
    LoadMatrix(model, layer, kind, expert, other.data());
    return static_cast<const float*>(other.data());
  };
  const double deviation = StandardDeviation(model.config.num_experts,
                                             target.matrix_size(), matrix_of);
  target.scale = deviation > 0 ? deviation : 1;
  return target;
}

Factors LoadFactors(const OpenedModel& model, int64_t layer,
                    const MatrixKind& kind) {
  const FactorShape& shape = *model.Factored(layer, kind);
  Factors factors;
  factors.num_bases = shape.num_bases;
  factors.rank = shape.rank;
  factors.activation = model.mobe->activation;
  factors.basis_rank = shape.basis_rank;
  const int64_t hidden = model.config.hidden_size;
  if (shape.basis_rank == 0) {
    factors.bases = LoadShared(model, shape, kind.bases, shape.rank * hidden);
  } else {
    const int64_t k = shape.basis_rank;
    factors.bases_left = LoadShared(model, shape, kind.left, shape.rank * k);
    factors.bases_right = LoadShared(model, shape, kind.right, k * hidden);
    MultiplyBases(hidden, &factors);
  }
  factors.alpha = LoadAlpha(model, shape);
  const int64_t size = model.config.expert_size * factors.rank;
  factors.a.Resize(model.config.num_experts * size);
  ParallelFor(model.config.num_experts, [&](int64_t expert) {
    const TensorView& tensor = model.At(kind.expert, layer, expert);
    LoadFloats(tensor, factors.a.data() + expert * size);
  });
  return factors;
}

}  // namespace mobe
