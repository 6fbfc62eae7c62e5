#include "mobe/measure.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/parallel.h"
#include "io/fp8.h"
#include "mobe/tensors.h"
#include "mobe/zeros.h"

namespace mobe {

MatricesError MeasureMatrices(const OpenedModel& original,
                              const OpenedModel& model, int64_t layer,
                              const MatrixKind& kind,
                              std::vector<std::string>* unwritten) {
  const int64_t size = model.config.expert_size * model.config.hidden_size;
  std::vector<ExpertError> errors(model.config.num_experts);
  std::vector<double> squares(model.config.num_experts);  // of what is there
  std::vector<Spread> spreads(model.config.num_experts);
  std::vector<char> zeros(model.config.num_experts);
  // build(expert, matrix) is what stands for the original's.
  const auto measure = [&](const ExpertGroup& group, const BuildFn& build) {
    ParallelFor(group.count, [&](int64_t e) {
      const int64_t expert = group.first + e;
      thread_local Buffer<float> weights;
      weights.Resize(size);
      const TensorView& tensor = original.At(kind.expert, layer, expert);
      zeros[expert] = LooksUnwritten(tensor, CheckFinite(original, tensor));
      LoadMatrix(original, layer, kind, expert, weights.data());
      thread_local Buffer<float> product;
      product.Resize(size);
      build(expert, product.data());
      spreads[expert] = SpreadOf({weights.data(), static_cast<size_t>(size)});
      squares[expert] = std::transform_reduce(
          product.begin(), product.end(), 0.0, std::plus<>(),
          [](double value) { return value * value; });
      errors[expert] = MeasureExpert(weights.data(), size, product.data());
    });
  };
  const FactorShape* shape = model.Factored(layer, kind);
  if (shape == nullptr) {
    measure({0, model.config.num_experts}, [&](int64_t expert, float* matrix) {
      LoadMatrix(model, layer, kind, expert, matrix);
    });
  } else {
    for (const ExpertGroup& group : GroupsOf(model.config, *shape)) {
      const Factors shared = LoadShared(model, layer, kind, group);
      measure(group, [&](int64_t expert, float* matrix) {
        BuildMatrix(model, layer, kind, group, shared, expert, matrix);
      });
    }
  }
  for (int64_t e = 0; unwritten != nullptr && e < model.config.num_experts;
       ++e) {
    if (zeros[e] == 0) continue;
    unwritten->push_back(original.At(kind.expert, layer, e).name);
  }
  MatricesError result{ErrorOf(errors, ScaleOf(spreads), size)};
  const auto worst = static_cast<size_t>(result.worst_expert_index);
  result.worst_likeness =
      Loss{errors[worst].difference, errors[worst].weights, squares[worst]}
          .likeness();
  return result;
}

Loss MeasureLoss(const TensorView& original, const TensorView& copy) {
  constexpr int64_t kPiece = 1 << 20;
  const int64_t pieces = (original.elements() + kPiece - 1) / kPiece;
  std::vector<Loss> losses(static_cast<size_t>(pieces));
  ParallelFor(pieces, [&](int64_t i) {
    thread_local Buffer<float> before;
    thread_local Buffer<float> after;
    const int64_t count = std::min(kPiece, original.elements() - i * kPiece);
    before.Resize(count);
    after.Resize(count);
    LoadFloats(original, i * kPiece, count, before.data());
    LoadFloats(copy, i * kPiece, count, after.data());
    losses[static_cast<size_t>(i)].Add(before.data(), after.data(), count);
  });
  Loss total;
  for (const Loss& loss : losses) total.Add(loss);
  return total;
}

}  // namespace mobe
