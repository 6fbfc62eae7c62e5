#include "compress/reconstruct.h"

#include <string>
#include <utility>

#include "base/error.h"
#include "compress/model_card.h"
#include "compress/write_plain.h"
#include "mobe/modeling_file.h"
#include "mobe/packed_model.h"
#include "mobe/tensors.h"

namespace mobe {
namespace {

// What was read last: tensors come by layer and kind, then by expert.
struct LoadedFactors {
  int64_t layer = -1;
  Role role = Role::kEmbedding;
  ExpertGroup group;
  Factors shared;

  bool Serves(const TensorSpec& spec) const {
    return layer == spec.layer && role == spec.role &&
           group.first <= spec.expert &&
           spec.expert < group.first + group.count;
  }
};

// The kind of a matrix that is factored; null for any other tensor.
const MatrixKind* FactoredKind(const OpenedModel& model,
                               const TensorSpec& spec) {
  const MatrixKind* kind = KindOf(spec.role);
  if (kind == nullptr || model.Factored(spec.layer, *kind) == nullptr) {
    return nullptr;
  }
  return kind;
}

}  // namespace

bool Reconstruct(const OpenedModel& model, const std::filesystem::path& out,
                 int64_t shard_bytes, const ProgressFn& progress,
                 const StopFn& stop) {
  if (!model.mobe && !HasPacked(model)) {
    Fail(ErrorKind::kUserInput,
         "{}: neither a factored nor a quantised model, nothing to do",
         model.checkpoint.folder().string());
  }
  LoadedFactors loaded;
  Buffer<float> product;
  const auto compute = [&](const TensorSpec& spec, float* values) {
    const MatrixKind* kind = FactoredKind(model, spec);
    if (kind == nullptr) return false;
    if (!loaded.Serves(spec)) {
      const FactorShape& shape = *model.Factored(spec.layer, *kind);
      const int64_t in_group = model.config.num_experts / shape.groups;
      const ExpertGroup group =
          GroupAt(model.config, shape, spec.expert / in_group);
      loaded = {};  // not both in memory
      loaded = {spec.layer, spec.role, group,
                LoadShared(model, spec.layer, *kind, group)};
    }
    const auto build = [&](float* matrix) {
      BuildMatrix(model, spec.layer, *kind, loaded.group, loaded.shared,
                  spec.expert, matrix);
    };
    if (!kind->transposed) {
      build(values);
      return true;
    }
    const int64_t rows = model.config.expert_size;
    const int64_t cols = model.config.hidden_size;
    product.Resize(rows * cols);
    build(product.data());
    Transpose(product.data(), rows, cols, values);
    return true;
  };
  WriteJob job;
  job.options = {{"command", "reconstruct"},
                 {"mobe", MOBE_VERSION},
                 {"shard_bytes", shard_bytes}};
  job.shard_bytes = shard_bytes;
  job.stop = stop;
  // What the model's recipe tells of its making goes into the card. Without
  // one, all side files are kept as they are.
  job.card = [&](const Recipe& recipe) {
    return ReconstructedCard(
        recipe, ReadCard(model.checkpoint.folder() / kOriginalCardFile),
        NeedsOwnCode(model.checkpoint.config()));
  };
  return WritePlain(model, out, std::move(job), compute, progress);
}

}  // namespace mobe
