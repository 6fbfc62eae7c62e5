#include "mobe/tensors.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "io/fp8.h"
#include "mobe/copy_tensors.h"

namespace mobe {

std::vector<TensorSpec> ExpertByExpert(std::vector<TensorSpec> tensors) {
  const auto end = tensors.end();
  for (auto begin = tensors.begin(); begin != end;) {
    const auto next = std::find_if(begin, end, [&](const TensorSpec& spec) {
      return spec.layer != begin->layer;
    });
    std::ranges::stable_sort(begin, next, {}, &TensorSpec::expert);
    begin = next;
  }
  return tensors;
}

DType FactorDType(const OpenedModel& model, int64_t layer,
                  const MatrixKind& kind) {
  const auto of = [&](int64_t expert) {
    return ComputedDType(model.At(kind.expert, layer, expert));
  };
  const DType first = of(0);
  for (int64_t expert = 1; expert < model.config.num_experts; ++expert) {
    if (of(expert) != first) return DType::kF32;
  }
  return first;
}

TensorScan ScanTensor(const TensorView& tensor) {
  TensorScan scan;
  if (!tensor.HasFloats()) return scan;
  constexpr int64_t kPiece = 4096;
  float values[kPiece];
  int64_t run = 0;
  for (int64_t begin = 0; begin < tensor.elements(); begin += kPiece) {
    const int64_t count = std::min(kPiece, tensor.elements() - begin);
    LoadFloats(tensor, begin, count, values);
    bool finite = true;
    bool zero = true;
    for (int64_t i = 0; i < count; ++i) {
      finite &= std::isfinite(values[i]);
      zero &= values[i] == 0;
    }
    if (!finite) {
      const auto* first = std::find_if_not(
          values, values + count, [](float v) { return std::isfinite(v); });
      scan.first_not_finite = begin + (first - values);
      return scan;
    }
    run = zero ? run + count * DTypeSize(tensor.dtype) : 0;
    scan.zero_bytes = std::max(scan.zero_bytes, run);
  }
  return scan;
}

TensorScan CheckFinite(const OpenedModel& model, const TensorView& tensor) {
  const TensorScan scan = ScanTensor(tensor);
  const int64_t at = scan.first_not_finite;
  if (at < 0) return scan;
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
  std::vector<Spread> spreads(model.config.num_experts);
  ParallelFor(model.config.num_experts, [&](int64_t expert) {
    thread_local Buffer<float> other;  // of another group
    float* matrix = nullptr;
    const int64_t e = expert - group.first;
    if (e >= 0 && e < group.count) {
      CheckFinite(model, model.At(kind.expert, layer, expert));
      matrix = target.weights.data() + e * target.matrix_size();
    } else {
      other.Resize(target.matrix_size());
      matrix = other.data();
    }
    LoadMatrix(model, layer, kind, expert, matrix);
    spreads[expert] =
        SpreadOf({matrix, static_cast<size_t>(target.matrix_size())});
  });
  target.scale = ScaleOf(spreads);
  return target;
}

double ScaleOf(const std::vector<Spread>& experts) {
  Spread all;
  for (const Spread& expert : experts) all.Add(expert);
  const double deviation = all.Deviation();
  return deviation > 0 ? deviation : 1;
}

Factors LoadShared(const OpenedModel& model, int64_t layer,
                   const MatrixKind& kind, const ExpertGroup& group) {
  const FactorShape& shape = *model.Factored(layer, kind);
  const auto load = [&](Role role) {
    const TensorView& tensor = model.At(role, layer, group.index);
    Buffer<float> values(tensor.elements());
    LoadFloats(tensor, values.data());
    return values;
  };
  Factors factors;
  factors.num_bases = shape.num_bases / shape.groups;
  factors.rank = shape.rank;
  factors.activation = model.mobe->activation;
  factors.basis_rank = shape.basis_rank;
  factors.alpha = load(kind.alpha);
  if (shape.basis_rank == 0) {
    factors.bases = load(kind.bases);
  } else {
    factors.bases_left = load(kind.left);
    factors.bases_right = load(kind.right);
    MultiplyBases(model.config.hidden_size, &factors);
  }
  return factors;
}

void BuildMatrix(const OpenedModel& model, int64_t layer,
                 const MatrixKind& kind, const ExpertGroup& group,
                 const Factors& shared, int64_t expert, float* matrix) {
  const TensorView& tensor = model.At(kind.expert, layer, expert);
  thread_local Buffer<float> a;
  a.Resize(tensor.elements());
  LoadFloats(tensor, a.data());
  thread_local Buffer<float> mix;
  BuildExpert(shared, a.data(), expert - group.first, model.config.expert_size,
              model.config.hidden_size, &mix, matrix);
}

}  // namespace mobe
