#include "mobe/operations.h"

#include <algorithm>
#include <functional>
#include <vector>

namespace mobe {
namespace {

// How many experts use each basis.
std::vector<int64_t> CountUsers(const TensorView& alpha) {
  const int64_t num_bases = alpha.shape[1];
  std::vector<int64_t> users(static_cast<size_t>(num_bases));
  for (int64_t i = 0; i < alpha.elements(); ++i) {
    if (LoadAsFloat(alpha.dtype, alpha.data.data(), i) != 0) {
      ++users[static_cast<size_t>(i % num_bases)];
    }
  }
  return users;
}

// Of `experts`, of which `users` are marked, `picks` are drawn: the chance that
// one of them is marked.
double ChanceOfAny(int64_t experts, int64_t users, int64_t picks) {
  double none = 1;
  for (int64_t i = 0; i < picks; ++i) {
    const auto unmarked = static_cast<double>(experts - users - i);
    none *= std::max(unmarked, 0.0) / static_cast<double>(experts - i);
  }
  return 1 - none;
}

// Users of the bases of one group, as CountUsers.
using UsersFn =
    std::function<std::vector<int64_t>(const FactorShape&, const ExpertGroup&)>;

// Adds one kind of a layer.
void CountFused(const ModelConfig& config, const FactorShape& shape,
                Activation activation, const UsersFn& users_of,
                Operations* operations) {
  const auto picks = static_cast<double>(config.experts_per_token);
  const auto experts = static_cast<double>(config.num_experts);
  const auto rows = static_cast<double>(config.expert_size);
  const auto cols = static_cast<double>(config.hidden_size);
  const auto rank = static_cast<double>(shape.rank);
  double mixed = 0;  // alphas of the chosen experts
  double used = 0;   // bases
  for (const ExpertGroup& group : GroupsOf(config, shape)) {
    for (const int64_t users : users_of(shape, group)) {
      mixed += picks * static_cast<double>(users) / experts;
      used += ChanceOfAny(config.num_experts, users, config.experts_per_token);
    }
  }
  if (activation == Activation::kIdentity && shape.basis_rank == 0 &&
      !shape.kind->transposed) {
    const double products = static_cast<double>(shape.num_bases) * rank * cols;
    operations->shared += products;
    operations->fused += products + mixed * rank + picks * rank * rows;
    return;
  }
  const double mixes = mixed * rank * cols;
  const double low_rank =
      used * rank * static_cast<double>(shape.basis_rank) * cols;
  operations->mixes += mixes;
  operations->shared += low_rank;
  operations->fused += picks * rank * (rows + cols) + mixes + low_rank;
}

Operations Count(const ModelConfig& config, const MobeFormat* mobe,
                 const UsersFn& users_of) {
  const double plain = static_cast<double>(config.experts_per_token) *
                       static_cast<double>(config.expert_size) *
                       static_cast<double>(config.hidden_size);
  Operations operations;
  for (const int64_t layer : config.MoeLayers()) {
    for (const MatrixKind& kind : kMatrixKinds) {
      const FactorShape* shape =
          mobe == nullptr ? nullptr : mobe->Find(layer, kind);
      operations.built += plain;
      if (shape == nullptr) {
        operations.fused += plain;
      } else {
        CountFused(config, *shape, mobe->activation, users_of, &operations);
      }
    }
  }
  return operations;
}

}  // namespace

Operations CountOperations(const OpenedModel& model) {
  return Count(model.config, model.mobe ? &*model.mobe : nullptr,
               [&](const FactorShape& shape, const ExpertGroup& group) {
                 return CountUsers(
                     model.At(shape.kind->alpha, shape.layer, group.index));
               });
}

Operations CountOperations(const ModelConfig& config, const MobeFormat* mobe) {
  return Count(
      config, mobe, [](const FactorShape& shape, const ExpertGroup& group) {
        return std::vector<int64_t>(
            static_cast<size_t>(shape.num_bases / shape.groups), group.count);
      });
}

}  // namespace mobe
