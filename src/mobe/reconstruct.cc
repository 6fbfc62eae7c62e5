#include "mobe/reconstruct.h"

#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "base/disk.h"
#include "base/error.h"
#include "base/file.h"
#include "io/checkpoint_writer.h"
#include "mobe/tensors.h"

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
                 int64_t shard_bytes, const ProgressFn& progress,
                 const StopFn& stop) {
  if (!model.mobe) {
    Fail(ErrorKind::kUserInput, "{}: not a factored model, nothing to do",
         model.checkpoint.folder().string());
  }
  CheckOutputFolder(out);

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

  int64_t bytes = 0;
  for (const TensorDecl& tensor : tensors) bytes += tensor.bytes();
  CheckDiskSpace(out, bytes);
  MakeFolder(out);

  LoadedFactors loaded;
  Buffer<float> scratch;
  Buffer<float> product;
  Buffer<std::byte> stored;
  size_t done = 0;
  const auto source = [&](const TensorDecl& tensor, const ByteSink& sink) {
    const auto found = specs.find(tensor.name);
    const MatrixKind* kind =
        found == specs.end() ? nullptr : KindOf(model, found->second);
    if (kind == nullptr) {
      const TensorView& view = model.checkpoint.At(tensor.name);
      sink(view.data);
      model.checkpoint.Evict(view);
    } else {
      const TensorSpec& spec = found->second;
      if (loaded.layer != spec.layer || loaded.role != spec.role) {
        loaded = {spec.layer, spec.role, LoadFactors(model, spec.layer, *kind)};
      }
      product.Resize(tensor.elements());
      BuildExpert(loaded.factors, spec.expert, tensor.shape[0], tensor.shape[1],
                  &scratch, product.data());
      stored.Resize(tensor.bytes());
      StoreFloats(product.data(), product.size(), tensor.dtype, stored.data());
      sink({stored.data(), static_cast<size_t>(stored.size())});
    }
    progress({static_cast<double>(++done) / static_cast<double>(tensors.size()),
              tensor.name, ""});
    if (stop && stop()) {
      throw Stopped("stopped; the same command begins anew");
    }
  };
  const std::vector<Shard> shards = PlanShards(tensors, shard_bytes);
  try {
    for (const Shard& shard : shards) WriteShard(out, shard, source);
    FinishCheckpoint(out, shards, model.checkpoint.folder(),
                     PlainConfig(model.checkpoint.config()));
  } catch (...) {
    std::error_code ignored;  // the first error is the one to tell
    for (const Shard& shard : shards) {
      std::filesystem::remove(out / shard.file, ignored);
    }
    // The index and the side files: those of the model have the same names.
    for (const auto& entry : std::filesystem::directory_iterator(
             model.checkpoint.folder(), ignored)) {
      std::filesystem::remove(out / entry.path().filename(), ignored);
    }
    std::filesystem::remove(out / "model.safetensors.index.json", ignored);
    throw;
  }
}

}  // namespace mobe
