#include "mobe/reconstruct.h"

#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "io/checkpoint_writer.h"
#include "mobe/model_card.h"
#include "mobe/recipe.h"
#include "mobe/tensors.h"

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
                 int64_t shard_bytes, const ProgressFn& progress) {
  if (!model.mobe) {
    Fail(ErrorKind::kUserInput, "{}: not a factored model, nothing to do",
         model.checkpoint.folder().string());
  }
  const std::optional<Recipe> recipe = ReadRecipe(model.checkpoint.folder());
  CheckOutputFolder(out);
  MakeFolder(out);

  std::vector<TensorDecl> tensors;
  std::unordered_map<std::string, TensorSpec> specs;
  for (const TensorSpec& spec : ListTensors(*model.family, model.config)) {
    tensors.push_back(
        {spec.name, model.checkpoint.At(spec.name).dtype, spec.shape});
    specs[spec.name] = spec;
  }
  std::unordered_set<std::string> known;
  for (const TensorSpec& spec : model.tensors) known.insert(spec.name);
  for (const TensorView* tensor : model.checkpoint.tensors()) {
    if (!known.contains(tensor->name)) tensors.push_back(*tensor);
  }

  LoadedFactors loaded;
  Buffer<float> scratch;
  Buffer<float> product;
  Buffer<std::byte> stored;
  size_t done = 0;
  const auto source = [&](const TensorDecl& tensor, const ByteSink& sink) {
    const auto found = specs.find(tensor.name);
    const MatrixKind* kind =
        found == specs.end() ? nullptr : FactoredKind(model, found->second);
    if (kind == nullptr) {
      const TensorView& view = model.checkpoint.At(tensor.name);
      sink(view.data);
      model.checkpoint.Evict(view);
    } else {
      const TensorSpec& spec = found->second;
      if (loaded.layer != spec.layer || loaded.role != spec.role) {
        loaded = {spec.layer, spec.role, LoadFactors(model, spec.layer, *kind)};
      }
      const int64_t rows = model.config.expert_size;
      const int64_t cols = model.config.hidden_size;
      product.Resize(tensor.elements());
      BuildExpert(loaded.factors, spec.expert, rows, cols, &scratch,
                  product.data());
      if (kind->transposed) {
        scratch.Resize(product.size());
        Transpose(product.data(), rows, cols, scratch.data());
        std::swap(product, scratch);
      }
      stored.Resize(tensor.bytes());
      StoreFloats(product.data(), product.size(), tensor.dtype, stored.data());
      sink({stored.data(), static_cast<size_t>(stored.size())});
    }
    progress({static_cast<double>(++done) / static_cast<double>(tensors.size()),
              tensor.name, ""});
  };
  const std::vector<Shard> shards = PlanShards(tensors, shard_bytes);
  for (const Shard& shard : shards) WriteShard(out, shard, source);
  // The recipe is not true of the rebuilt files; what it tells of their making
  // goes into the card. Without one, all side files are kept as they are.
  const auto finish = [&](const std::vector<std::string>&, const std::string&) {
    if (!recipe) return;
    const std::string card =
        ReadCard(model.checkpoint.folder() / kOriginalCardFile);
    WriteFileAtomically(out / kCardFile, ReconstructedCard(*recipe, card));
  };
  std::vector<std::string> leave_out;
  if (recipe) leave_out = {kRecipeFile, kCardFile};
  FinishCheckpoint(out, shards, model.checkpoint.folder(),
                   PlainConfig(model.checkpoint.config()), leave_out, finish);
}

}  // namespace mobe
