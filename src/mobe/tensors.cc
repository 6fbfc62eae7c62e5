#include "mobe/tensors.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "io/fp8.h"

namespace mobe {
namespace {

// Sample standard deviation of all weights, as the reference scales them.
double StandardDeviation(const Buffer<float>& values) {
  double sum = 0;
  for (const float v : values) sum += v;
  const double mean = sum / static_cast<double>(values.size());
  double squares = 0;
  for (const float v : values) squares += (v - mean) * (v - mean);
  return values.size() < 2
             ? 0
             : std::sqrt(squares / static_cast<double>(values.size() - 1));
}

Buffer<float> LoadTensor(const TensorView& tensor) {
  Buffer<float> values(tensor.elements());
  LoadFloats(tensor, values.data());
  return values;
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
  FitTarget target;
  target.experts = model.config.num_experts;
  target.rows = model.config.expert_size;
  target.cols = model.config.hidden_size;
  target.weights.Resize(target.experts * target.matrix_size());
  ParallelFor(target.experts, [&](int64_t expert) {
    CheckFinite(model, model.At(kind.expert, layer, expert));
    LoadMatrix(model, layer, kind, expert,
               target.weights.data() + expert * target.matrix_size());
  });
  const double deviation = StandardDeviation(target.weights);
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
  if (shape.basis_rank == 0) {
    factors.bases = LoadTensor(model.At(kind.bases, layer));
  } else {
    factors.bases_left = LoadTensor(model.At(kind.left, layer));
    factors.bases_right = LoadTensor(model.At(kind.right, layer));
    MultiplyBases(model.config.hidden_size, &factors);
  }
  factors.alpha = LoadTensor(model.At(kind.alpha, layer));
  const int64_t size = model.config.expert_size * factors.rank;
  factors.a.Resize(model.config.num_experts * size);
  ParallelFor(model.config.num_experts, [&](int64_t expert) {
    const TensorView& tensor = model.At(kind.expert, layer, expert);
    LoadFloats(tensor, factors.a.data() + expert * size);
  });
  return factors;
}

}  // namespace mobe
