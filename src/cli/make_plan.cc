#include "cli/make_plan.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/disk.h"
#include "base/error.h"
#include "base/file.h"
#include "base/temporary.h"
#include "compress/crew.h"
#include "compress/journal.h"
#include "compress/split.h"
#include "eval/damage.h"
#include "io/checkpoint_writer.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

Json TableOf(const CompressPlan& plan) {
  const Json format = DescribeFormat(plan.format);
  return {{"activation", format.at("activation")},
          {"factors", format.at("factors")}};
}

CompressPlan PlanOfTable(const OpenedModel& model,
                         const CompressOptions& options, const Json& table,
                         const std::string& source) {
  const ConfigReader reader(table, source);
  return PlanCompression(model, options,
                         ReadTable(reader, model.config).factors);
}

// The shapes of the job in `out`, begun or finished, if there is one that has
// some.
std::optional<Json> TableOfJob(const fs::path& out) {
  const std::optional<Json> job = OptionsOfJob(out);
  if (!job || !job->contains("shapes")) return std::nullopt;
  const ConfigReader options(*job, out.string());
  return Json{{"activation", options.String("activation", "silu")},
              {"factors", job->at("shapes")}};
}

std::vector<FactorShape> Choose(const OpenedModel& model,
                                const CompressOptions& options,
                                const CalibrateOptions& calibrate,
                                const fs::path& out, KeepMoments keep,
                                const ProgressFn& progress) {
  const fs::path ours = Exists(out) ? out / Journal::kFolder : out;
  const bool remove = keep == KeepMoments::kNo && !Exists(ours);
  // Only moments are kept there; what is removed is removed under the lock.
  std::optional<FolderLock> lock;
  if (options.calibration) lock.emplace(out);
  const bool alone = lock && remove && !OptionsOfJob(out);
  const Temporary temporary(alone ? ours : fs::path());
  fs::path moments;
  if (options.calibration) {
    EnsureMoments(*options.calibration, out, options.stop, progress);
    moments = internal::MomentsPath(out);
  }
  CalibrateOptions some = calibrate;
  some.max_tokens = std::min(some.max_tokens, kDamageTokens);
  some.context =
      std::min({some.context, kDamageTokens, model.config.max_positions});
  const std::vector<int32_t> ids = ReadTokens(some, model);
  const DamageFn damage = [&](const std::vector<LayerKind>& matrices,
                              const ReplaceFn& replace,
                              const ProgressFn& report) {
    return MeasureDamage(model, {ids, some.context}, matrices, replace, report);
  };
  return ChooseShapes(model, options, moments, damage, progress);
}

}  // namespace

CompressPlan MakePlan(const OpenedModel& model, const CompressOptions& options,
                      const CalibrateOptions& calibrate, const fs::path& out,
                      KeepMoments keep, const ProgressFn& progress,
                      Ranks* ranks) {
  if (options.split == Split::kEven) return PlanCompression(model, options);
  const std::optional<Json> table = TableOfJob(out);
  if (!table) {
    CheckOutputFolder(out, {Journal::kFolder});  // not after all the work
    CheckOptions(model, options);
    if (options.calibration) CheckDiskSpace(out, options.calibration->bytes);
  }
  CompressPlan plan = table ? PlanOfTable(model, options, *table, out.string())
                            : PlanCompression(model, options,
                                              Choose(model, options, calibrate,
                                                     out, keep, progress));
  for (int rank = 1; ranks != nullptr && rank < ranks->size(); ++rank) {
    ranks->Send(rank, {{"shapes", TableOf(plan)}});
  }
  return plan;
}

CompressPlan ReceivePlan(const OpenedModel& model,
                         const CompressOptions& options, Ranks* ranks) {
  if (options.split == Split::kEven) return PlanCompression(model, options);
  while (!ranks->ended()) {
    const std::optional<Message> message = ranks->Receive(1);
    if (!message || !message->body.contains("shapes")) continue;
    return PlanOfTable(model, options, message->body["shapes"], "rank 0");
  }
  throw StopWork();
}

CompressPlan PlanOfPart(const OpenedModel& model,
                        const CompressOptions& options, const fs::path& part) {
  if (options.split == Split::kEven) return PlanCompression(model, options);
  const std::optional<Json> table = TableOfJob(part);
  if (!table) {
    Fail(ErrorKind::kUserInput,
         "{}: not a part (compress --shard i/N makes one)", part.string());
  }
  return PlanOfTable(model, options, *table, part.string());
}

}  // namespace mobe
