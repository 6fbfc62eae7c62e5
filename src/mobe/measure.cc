#include "mobe/measure.h"

#include <vector>

#include "base/parallel.h"
#include "mobe/tensors.h"

namespace mobe {

FitError MeasureMatrices(const OpenedModel& original, const OpenedModel& model,
                         int64_t layer, const MatrixKind& kind) {
  const int64_t size = model.config.expert_size * model.config.hidden_size;
  std::vector<ExpertError> errors(model.config.num_experts);
  std::vector<Spread> spreads(model.config.num_experts);
  // build(expert, matrix) is what stands for the original's.
  const auto measure = [&](const ExpertGroup& group, const BuildFn& build) {
    ParallelFor(group.count, [&](int64_t e) {
      const int64_t expert = group.first + e;
      thread_local Buffer<float> weights;
      weights.Resize(size);
      CheckFinite(original, original.At(kind.expert, layer, expert));
      LoadMatrix(original, layer, kind, expert, weights.data());
      thread_local Buffer<float> product;
      product.Resize(size);
      build(expert, product.data());
      spreads[expert] = SpreadOf({weights.data(), static_cast<size_t>(size)});
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
  return ErrorOf(errors, ScaleOf(spreads), size);
}

}  // namespace mobe
