#include "compress/write_model.h"

#include <optional>

#include "base/disk.h"
#include "compress/compress.h"
#include "compress/finish.h"
#include "compress/model_card.h"
#include "compress/shards.h"
#include "io/side_files.h"
#include "kernels/kernels.h"
#include "mobe/packed_model.h"

namespace mobe {

bool WriteModel(const OpenedModel& model, const std::filesystem::path& out,
                const WriteJob& job, const ProgressFn& progress) {
  const auto check_stop = [&] { CheckStop(job.stop); };
  int64_t bytes = 0;
  for (const TensorDecl& tensor : job.tensors) bytes += tensor.bytes();
  const SideFiles side_files = ListSideFiles(model.checkpoint.folder());
  for (const std::string& warning : CheckSideFiles(side_files)) {
    progress(Warning(warning));
  }
  if (!IsFinished(out)) {
    CheckDiskSpace(out, bytes + side_files.bytes() + job.work_bytes);
  }
  Journal journal(
      out, model.checkpoint.folder(), job.options,
      [&](const std::string&) {
        check_stop();
        return true;
      },
      internal::WarnThrough(progress));
  if (journal.finished()) return false;
  const std::vector<Shard> shards = PlanShards(job.tensors, job.shard_bytes);
  KeepSoundShards(shards, out, &journal);
  if (job.begin) job.begin(&journal);

  size_t done = 0;
  const auto show = [&](const std::string& what) {
    progress(
        {static_cast<double>(done) / static_cast<double>(job.tensors.size()),
         what, ""});
  };
  const auto source = [&](const TensorDecl& tensor, const ByteSink& sink) {
    job.source(tensor, [&](std::span<const std::byte> piece) {
      check_stop();  // rounding a large tensor takes minutes
      sink(piece);
    });
    ++done;
    show(tensor.name);
    check_stop();
  };
  const auto no_factor = [](const std::string&) { return false; };
  for (const Shard& shard : shards) {
    if (!WriteNotedShard(shard, out, source, no_factor, job.packed_parts,
                         &journal)) {
      done += shard.tensors.size();
      show(shard.file);
    }
  }
  Ending ending{model, shards, side_files, job.written, job.config};
  ending.kernels.insert(Kernels().name);
  if (job.matrices) ending.matrices = job.matrices(&journal);
  const std::optional<Recipe> recipe = ReadRecipe(model.checkpoint.folder());
  if (recipe && job.card) {
    ending.card = [&](const Recipe&) { return job.card(*recipe); };
  }
  if (recipe && job.packed_parts) {
    ending.packed_before = recipe->packed;
  }
  if (job.new_card) {
    // The card of a model that is compressed already is ours.
    const bool ours = recipe && (model.mobe || HasPacked(model));
    const std::string original =
        ours ? ReadCard(model.checkpoint.folder() / kOriginalCardFile)
             : KeepCard(&ending.side_files);
    ending.card = [&job, original](const Recipe& made) {
      return job.new_card(made, original);
    };
  }
  if (job.packed_all) job.packed_all(SumsOf(shards, journal).packed);
  FinishFolder(ending, journal, out);
  journal.Remove();
  return true;
}

}  // namespace mobe
