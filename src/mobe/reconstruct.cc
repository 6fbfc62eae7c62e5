#include "mobe/reconstruct.h"

#include "base/error.h"
#include "io/checkpoint_writer.h"
#include "mobe/tensors.h"
#include "mobe/write_plain.h"

namespace mobe {
namespace {

// The factors of the layer and kind read last: tensors come in their order.
struct LoadedFactors {
  int64_t layer = -1;
  Role role = Role::kEmbedding;
  Factors factors;
};

const MatrixKind* KindOf(const OpenedModel& model, const TensorSpec& spec) {
  if (!model.IsFactored(spec.layer)) return nullptr;
  for (const MatrixKind& kind : kMatrixKinds) {
    if (spec.role == kind.expert) return &kind;
  }
  return nullptr;
}

}  // namespace

void Reconstruct(const OpenedModel& model, const std::filesystem::path& out,
                 int64_t shard_bytes, const ProgressFn& progress) {
  if (!model.mobe) {
    Fail(ErrorKind::kUserInput, "{}: not a factored model, nothing to do",
         model.checkpoint.folder().string());
  }
  CheckOutputFolder(out);
  LoadedFactors loaded;
  Buffer<float> scratch;
  const auto compute = [&](const TensorSpec& spec, float* values) {
    const MatrixKind* kind = KindOf(model, spec);
    if (kind == nullptr) return false;
    if (loaded.layer != spec.layer || loaded.role != spec.role) {
      loaded = {spec.layer, spec.role, LoadFactors(model, spec.layer, *kind)};
    }
    BuildExpert(loaded.factors, spec.expert, spec.shape[0], spec.shape[1],
                &scratch, values);
    return true;
  };
  WritePlain(model, out, shard_bytes, compute, progress);
}

}  // namespace mobe
