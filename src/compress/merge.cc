// From the parts of all shares to the model.
#include <algorithm>

#include "base/disk.h"
#include "base/error.h"
#include "base/file.h"
#include "compress/compress.h"
#include "compress/finish.h"
#include "compress/journal.h"
#include "compress/shards.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// job.json of each part, checked against the plan.
std::vector<Json> ReadParts(const CompressPlan& plan,
                            const std::vector<fs::path>& parts) {
  const Json options = internal::OptionsJson(plan);
  std::vector<Json> jobs;
  for (const fs::path& part : parts) {
    jobs.push_back(ReadJob(part));
    const Json& theirs = jobs.back()["options"];
    if (!theirs.is_object() || !theirs.contains("share")) {
      Fail(ErrorKind::kUserInput,
           "{}: not a part (compress --shard i/N makes one)", part.string());
    }
    Json expected = options;
    expected["share"] = theirs["share"];
    expected["kernels"] = jobs.front()["options"]["kernels"];
    const auto differences = Differences(expected, theirs);
    if (differences.empty()) continue;
    const JsonDifference& d = differences.front();
    Fail(ErrorKind::kUserInput,
         "{}: belongs to another job than {} ({}: {}, expected {})",
         part.string(), parts.front().string(), d.key, d.after.dump(),
         d.before.dump());
  }
  return jobs;
}

// Where the factors of each job are, and their records.
struct Found {
  std::vector<FactorsFile> factors;
  std::vector<Json> records;
};

Json ReadRecordOf(const fs::path& part, const FactorJob& job) {
  try {
    return ReadRecord(part, job.layer, *job.kind);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kCorruptFile) throw;
    Fail(e.kind(),
         "{}; run the compress command of this part again, which fits the "
         "matrix anew",
         e.what());
  }
}

Found FindJobs(const CompressPlan& plan, const std::vector<fs::path>& parts,
               const std::string& share_of_first) {
  Found found;
  std::vector<size_t> missing;
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    const FactorJob& job = plan.jobs[i];
    found.factors.emplace_back();
    found.records.emplace_back();
    for (const fs::path& part : parts) {
      const fs::path factors = FactorsIn(part, job.layer, *job.kind);
      Json record = ReadRecordOf(part, job);
      if (record.is_null() || !Exists(factors)) continue;
      found.factors.back() = {factors, record.value("sha256", "")};
      found.records.back() = std::move(record);
      break;
    }
    if (found.records.back().is_null()) missing.push_back(i);
  }
  if (missing.empty()) return found;
  // The share that was to do it, if the parts agree in their number.
  Share share = ParseShare(share_of_first);
  const auto costs = internal::CostsOf(plan);
  for (share.index = 0; share.index < share.count; ++share.index) {
    const auto jobs = JobsOfShare(costs, share);
    if (std::ranges::find(jobs, missing.front()) != jobs.end()) break;
  }
  const FactorJob& first = plan.jobs[missing.front()];
  Fail(ErrorKind::kUserInput,
       "{} of {} matrices are in none of the parts, first layer {} {}; finish "
       "--shard {}/{}, or name its part, too",
       missing.size(), plan.jobs.size(), first.layer, first.kind->name,
       share.index, share.count);
}

}  // namespace

CompressReport Merge(const OpenedModel& model, const CompressPlan& plan,
                     const std::vector<fs::path>& parts, const fs::path& out,
                     const ProgressFn& progress) {
  const StopFn& stop = plan.options.stop;
  size_t done = 0;
  const auto check_stop = [&] {
    if (!stop || !stop()) return;
    throw Stopped(fmt::format(
        "stopped; run the same command to continue: {} of {} files are "
        "written",
        done, plan.shards.size()));
  };
  const std::vector<Json> jobs = ReadParts(plan, parts);
  const Found found = FindJobs(plan, parts, jobs.front()["options"]["share"]);

  for (const std::string& warning : CheckSideFiles(plan.side_files)) {
    progress(Warning(warning));
  }
  if (!IsFinished(out)) {
    CheckDiskSpace(out, plan.bytes_out + plan.side_files.bytes());
  }
  Journal journal(
      out, model.checkpoint.folder(), internal::OptionsJson(plan),
      [&](const std::string&) {
        check_stop();
        return true;
      },
      internal::WarnThrough(progress));
  if (journal.finished()) return internal::ReportOfRecipe(out);
  for (size_t i = 0; i < parts.size(); ++i) {
    journal.CheckInputs(parts[i], jobs[i]);
  }
  KeepSoundShards(plan.shards, out, &journal);
  // The parts have checked the rest.
  auto fitted = internal::InputsOf(model, plan.jobs);
  std::ranges::sort(fitted);
  std::vector<const TensorView*> copied = model.checkpoint.tensors();
  std::erase_if(copied, [&](const TensorView* tensor) {
    return std::ranges::binary_search(fitted, tensor);
  });
  const std::string zeros = internal::CheckWeightsOnce(model, copied, &journal);
  if (!zeros.empty()) progress(Warning(zeros));
  if (plan.RoundsByText()) {  // the parts' journals keep theirs
    EnsureMoments(*plan.options.calibration, out, stop, progress);
  }
  const auto factors_of = [&](const FactorJob& job) {
    return found.factors[static_cast<size_t>(&job - plan.jobs.data())];
  };
  const auto written = [&](size_t shard) {
    progress({static_cast<double>(shard + 1) /
                  static_cast<double>(plan.shards.size()),
              plan.shards[shard].file});
    done = shard + 1;
    check_stop();
  };
  WriteReadyShards(model, plan, out, std::vector<bool>(plan.jobs.size(), true),
                   factors_of, &journal, check_stop, written);
  FinishModel(model, plan, out, found.records, journal);
  journal.Remove();
  return internal::ReportOf(plan, found.records);
}

}  // namespace mobe
