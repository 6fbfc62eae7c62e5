#include "mobe/write_plain.h"

#include <unordered_map>
#include <unordered_set>

#include "base/disk.h"
#include "base/file.h"
#include "io/fp8.h"
#include "mobe/copy_tensors.h"

namespace mobe {

namespace fs = std::filesystem;

void WritePlain(const OpenedModel& model, const std::filesystem::path& out,
                int64_t shard_bytes, const ComputeFn& compute,
                const ProgressFn& progress, const WritePlainOptions& options) {
  std::vector<TensorDecl> tensors;
  std::unordered_map<std::string, TensorSpec> specs;
  for (const TensorSpec& spec : ListTensors(*model.family, model.config)) {
    tensors.push_back(
        {spec.name, ComputedDType(model.checkpoint.At(spec.name)), spec.shape});
    specs[spec.name] = spec;
  }
  // What the table does not know is taken over, too.
  std::unordered_set<std::string> known;
  for (const TensorSpec& spec : model.tensors) known.insert(spec.name);
  AddOtherCopies(model.checkpoint, known, /*keep_fp8=*/false, &tensors);

  int64_t bytes = 0;
  for (const TensorDecl& tensor : tensors) bytes += tensor.bytes();
  SideFiles side_files = ListSideFiles(model.checkpoint.folder());
  for (const std::string& name : options.leave_out) LeaveOut(name, &side_files);
  for (const std::string& warning : CheckSideFiles(side_files)) {
    progress(Warning(warning));
  }
  CheckDiskSpace(out, bytes + side_files.bytes());
  MakeFolder(out);

  Buffer<float> values;
  Buffer<std::byte> stored;
  size_t done = 0;
  const auto source = [&](const TensorDecl& tensor, const ByteSink& sink) {
    const auto found = specs.find(tensor.name);
    values.Resize(tensor.elements());
    if (found != specs.end() && compute(found->second, values.data())) {
      stored.Resize(tensor.bytes());
      StoreFloats(values.data(), values.size(), tensor.dtype, stored.data());
      sink({stored.data(), static_cast<size_t>(stored.size())});
    } else {
      CopyTensor(model.checkpoint, tensor, sink);
    }
    progress({static_cast<double>(++done) / static_cast<double>(tensors.size()),
              tensor.name});
    if (options.stop && options.stop()) {
      throw Stopped("stopped; the same command begins anew");
    }
  };
  const std::vector<Shard> shards = PlanShards(tensors, shard_bytes);
  try {
    for (const Shard& shard : shards) WriteShard(out, shard, source);
    FinishCheckpoint(out, shards, side_files,
                     ConfigWithoutFp8(PlainConfig(model.checkpoint.config())),
                     options.before_config);
  } catch (...) {
    std::error_code ignored;  // the first error is the one to tell
    for (const Shard& shard : shards) fs::remove(out / shard.file, ignored);
    for (const SideFile& file : side_files.copied) {
      fs::remove(out / file.as, ignored);
    }
    fs::remove(out / kTemplatesFolder, ignored);  // if it is empty
    fs::remove(out / "model.safetensors.index.json", ignored);
    throw;
  }
}

}  // namespace mobe
