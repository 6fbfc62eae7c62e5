#include "compress/write_plain.h"

#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/disk.h"
#include "compress/compress.h"
#include "compress/finish.h"
#include "compress/shards.h"
#include "io/fp8.h"
#include "io/side_files.h"
#include "kernels/kernels.h"
#include "mobe/copy_tensors.h"

namespace mobe {

bool WritePlain(const OpenedModel& model, const std::filesystem::path& out,
                const PlainJob& job, const ProgressFn& progress) {
  const auto check_stop = [&] {
    if (!job.stop || !job.stop()) return;
    throw Stopped("stopped; run the same command to continue");
  };
  std::vector<TensorDecl> tensors;
  const auto table = ListTensors(*model.family, model.config);
  std::unordered_map<std::string, TensorSpec> specs;
  for (const TensorSpec& spec : table) {
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
  const SideFiles side_files = ListSideFiles(model.checkpoint.folder());
  for (const std::string& warning : CheckSideFiles(side_files)) {
    progress(Warning(warning));
  }
  if (!IsFinished(out)) CheckDiskSpace(out, bytes + side_files.bytes());
  Journal journal(
      out, model.checkpoint.folder(), job.options,
      [&](const std::string&) {
        check_stop();
        return true;
      },
      internal::WarnThrough(progress));
  if (journal.finished()) return false;
  const std::vector<Shard> shards = PlanShards(tensors, job.shard_bytes);
  KeepSoundShards(shards, out, &journal);
  if (job.begin) job.begin(&journal);

  Buffer<float> values;
  Buffer<std::byte> stored;
  size_t done = 0;
  const auto show = [&](const std::string& what) {
    progress({static_cast<double>(done) / static_cast<double>(tensors.size()),
              what, ""});
  };
  const auto source = [&](const TensorDecl& tensor, const ByteSink& sink) {
    const auto found = specs.find(tensor.name);
    values.Resize(tensor.elements());
    if (found != specs.end() && job.compute(found->second, values.data())) {
      stored.Resize(tensor.bytes());
      StoreFloats(values.data(), values.size(), tensor.dtype, stored.data());
      sink({stored.data(), static_cast<size_t>(stored.size())});
    } else {
      CopyTensor(model.checkpoint, tensor, sink);
    }
    ++done;
    show(tensor.name);
    check_stop();
  };
  const auto no_factor = [](const std::string&) { return false; };
  for (const Shard& shard : shards) {
    if (!WriteNotedShard(shard, out, source, no_factor, &journal)) {
      done += shard.tensors.size();
      show(shard.file);
    }
  }
  Ending ending{model, shards, side_files, table,
                ConfigWithoutFp8(PlainConfig(model.checkpoint.config()))};
  ending.kernels.insert(Kernels().name);
  if (job.matrices) ending.matrices = job.matrices(&journal);
  const std::optional<Recipe> recipe = ReadRecipe(model.checkpoint.folder());
  if (recipe && job.card) {
    ending.card = [&](const Recipe&) { return job.card(*recipe); };
  }
  FinishFolder(ending, journal, out);
  journal.Remove();
  return true;
}

}  // namespace mobe
