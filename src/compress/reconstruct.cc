#include "compress/reconstruct.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "compress/model_card.h"
#include "compress/recipe.h"
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

void Reconstruct(const OpenedModel& model, const std::filesystem::path& out,
                 int64_t shard_bytes, const ProgressFn& progress,
                 const StopFn& stop) {
  if (!model.mobe) {
    Fail(ErrorKind::kUserInput, "{}: not a factored model, nothing to do",
         model.checkpoint.folder().string());
  }
  const std::optional<Recipe> recipe = ReadRecipe(model.checkpoint.folder());
  CheckOutputFolder(out);
  LoadedFactors loaded;
  Buffer<float> scratch;
  Buffer<float> product;
  const auto compute = [&](const TensorSpec& spec, float* values) {
    const MatrixKind* kind = FactoredKind(model, spec);
    if (kind == nullptr) return false;
    if (loaded.layer != spec.layer || loaded.role != spec.role) {
      loaded = {spec.layer, spec.role, LoadFactors(model, spec.layer, *kind)};
    }
    const int64_t rows = model.config.expert_size;
    const int64_t cols = model.config.hidden_size;
    if (!kind->transposed) {
      BuildExpert(loaded.factors, spec.expert, rows, cols, &scratch, values);
      return true;
    }
    product.Resize(rows * cols);
    BuildExpert(loaded.factors, spec.expert, rows, cols, &scratch,
                product.data());
    Transpose(product.data(), rows, cols, values);
    return true;
  };
  // The recipe is not true of the rebuilt files; what it tells of their making
  // goes into the card. Without one, all side files are kept as they are.
  WritePlainOptions options;
  options.stop = stop;
  if (recipe) options.leave_out = {kRecipeFile, kCardFile};
  options.before_config = [&](const std::vector<std::string>&,
                              const std::string&) {
    if (!recipe) return;
    const std::string card =
        ReadCard(model.checkpoint.folder() / kOriginalCardFile);
    WriteFileAtomically(out / kCardFile, ReconstructedCard(*recipe, card));
  };
  WritePlain(model, out, shard_bytes, compute, progress, options);
}

}  // namespace mobe
