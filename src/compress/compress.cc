#include "compress/compress.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "base/disk.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "compress/crew.h"
#include "compress/device_workers.h"
#include "compress/estimate.h"
#include "compress/finish.h"
#include "compress/job.h"
#include "compress/journal.h"
#include "compress/recipe.h"
#include "compress/shards.h"
#include "fit/method.h"
#include "io/safetensors.h"
#include "kernels/blas.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"
#include "mobe/moments_file.h"
#include "mobe/tensors.h"
#include "mobe/zeros.h"

namespace mobe {

namespace fs = std::filesystem;

namespace {

// The budget in passes. A time budget, of which some is gone since `started`,
// is resolved once, by a probe, and kept with the job.
int64_t ResolvePasses(const OpenedModel& model, const CompressPlan& plan,
                      const fs::path& out, int64_t workers, double started,
                      const std::function<void()>& check_stop,
                      Journal* journal) {
  const Budget& budget = plan.options.budget;
  if (budget.seconds == 0) return budget.passes;
  const Json note = journal->Note("passes");
  if (!note.is_null()) return note;
  // A damaged note is gone, but what it said went into each record.
  for (const FactorJob& job : plan.jobs) {
    const Json record = journal->Record(job.layer, *job.kind);
    if (!record.is_null()) return record.at("passes");
  }
  const JobSpeed speed = MeasureSpeed(model, plan, out, workers, check_stop);
  const int64_t passes = PassesOf(budget, speed, MonotonicSeconds() - started);
  journal->SetNote("passes", passes);
  return passes;
}

MatrixReport ReportOf(const FactorJob& job, const Json& record) {
  MatrixReport matrix{job.layer, job.kind->name, {}};
  matrix.error.scaled_mse = record.at("mse_scaled");
  matrix.error.relative = record.at("relative");
  matrix.error.worst_expert = record.at("worst_expert");
  matrix.error.worst_expert_index = record.at("worst_expert_index");
  return matrix;
}

std::string ReportLine(const MatrixReport& matrix) {
  return fmt::format(
      "layer {:3} {:4}  scaled MSE {:.5f}  relative error {:.4f}  worst expert "
      "{:.4f} ({})",
      matrix.layer, matrix.kind, matrix.error.scaled_mse, matrix.error.relative,
      matrix.error.worst_expert, matrix.error.worst_expert_index);
}

// A part reads, hashes and checks only what its jobs do.
std::vector<const TensorView*> TensorsToRead(const OpenedModel& model,
                                             const CompressPlan& plan,
                                             const std::vector<bool>& wanted) {
  if (!plan.options.share) return model.checkpoint.tensors();
  std::vector<FactorJob> jobs;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i]) jobs.push_back(plan.jobs[i]);
  }
  return internal::InputsOf(model, jobs);
}

// What decides how sums are rounded, beside the options.
std::string Instructions(const CompressOptions& options) {
  std::string device = internal::DeviceText(options);
  if (!device.empty()) return device;
  return fmt::format("{}, products {:#x}, BLAS {}", Kernels().name,
                     GemmInstructions(), BlasKernels());
}

Json JournalOptions(const CompressPlan& plan) {
  Json options = internal::OptionsJson(plan);
  if (!plan.options.share) {
    // Of the CPU any: its instruction sets differ in the last bit.
    const std::string device = internal::DeviceText(plan.options);
    if (!device.empty()) options["device"] = device;
    return options;
  }
  const Share& share = *plan.options.share;
  options["share"] = fmt::format("{}/{}", share.index, share.count);
  // Merge can't promise the bytes of one process for a mixture.
  options["kernels"] = Instructions(plan.options);
  return options;
}

// What all ranks must agree in to give the bytes of one process.
Json TermsOf(const OpenedModel& model, const CompressPlan& plan) {
  Json terms = internal::OptionsJson(plan);
  terms["kernels"] = Instructions(plan.options);
  terms["model's bytes"] = plan.bytes_in;
  const std::string config = model.checkpoint.config().dump();
  terms["config.json"] = HashBytes(std::as_bytes(std::span(config)));
  return terms;
}

// Finished jobs, as they come in: their records, lines and shards.
class Results {
 public:
  Results(const OpenedModel& model, const CompressPlan& plan,
          const fs::path& out, double total, const ProgressFn& progress,
          Journal* journal)
      : model_(model),
        plan_(plan),
        out_(out),
        total_(total),
        progress_(progress),
        journal_(journal),
        finished_(plan.jobs.size(), false),
        records_(plan.jobs.size()) {}

  const std::vector<Json>& records() const { return records_; }

  void Add(size_t i) {
    const FactorJob& job = plan_.jobs[i];
    records_[i] = journal_->Record(job.layer, *job.kind);
    finished_[i] = true;
    done_ += 1;
    changed_ = true;
    progress_({done_ / total_, "", ReportLine(ReportOf(job, records_[i]))});
  }

  // `part` of one more job is done.
  void Show(const FactorJob& job, double part) const {
    progress_({(done_ + part) / total_,
               fmt::format("layer {} {}", job.layer, job.kind->name)});
  }

  bool Complete() const { return done_ >= total_; }

  void WriteShards(const std::function<void()>& check_stop) {
    if (!changed_) return;
    changed_ = false;
    const FactorsOfJob factors_of = [this](const FactorJob& job) {
      const auto i = static_cast<size_t>(&job - plan_.jobs.data());
      return FactorsFile{journal_->FactorsPath(job.layer, *job.kind),
                         records_[i].value("sha256", "")};
    };
    for (const size_t i :
         WriteReadyShards(model_, plan_, out_, finished_, factors_of, journal_,
                          check_stop, [&](size_t) { check_stop(); })) {
      journal_->DropFactors(plan_.jobs[i].layer, *plan_.jobs[i].kind);
    }
  }

 private:
  const OpenedModel& model_;
  const CompressPlan& plan_;
  const fs::path& out_;
  const double total_;
  const ProgressFn& progress_;
  Journal* const journal_;
  std::vector<bool> finished_;
  std::vector<Json> records_;
  double done_ = 0;
  bool changed_ = false;
};

// The start's hash, once it is known to be what a fit can read.
std::string StartText(const CompressOptions& options) {
  if (options.start.empty()) return "";
  const SafetensorsFile file(options.start);
  return HashFile(options.start);
}

}  // namespace

void EnsureMoments(const Calibration& calibration, const fs::path& out,
                   const StopFn& stop, const ProgressFn& progress) {
  const fs::path path = internal::MomentsPath(out);
  Json note;
  try {
    note = ReadNote(out, "moments");
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kCorruptFile) throw;
    progress(Warning(fmt::format("{}; it is made again", e.what())));
  }
  // Those of a choice that was stopped before its job began may be others.
  if (note.is_object() && note.value("hash", "") == calibration.hash) {
    if (Exists(path) && HashFile(path) == note.value("sha256", "")) {
      return;
    }
    progress(Warning(
        fmt::format("{}: damaged or lost; it is made again", path.string())));
  }
  calibration.collect(path, [&](const ProgressEvent& event) {
    if (stop && stop()) {
      throw Stopped(
          "stopped while calibrating, which begins anew; run the same command");
    }
    progress({.what = event.what, .warning = event.warning});
  });
  WriteNote(out, "moments",
            {{"hash", calibration.hash}, {"sha256", HashFile(path)}});
}

namespace internal {

// What a choice was asked for. Its result, the shapes, is read back from a job
// that goes on, so that it can't tell that this was something else.
std::string SplitOf(const CompressOptions& options) {
  if (options.split == Split::kEven) return SplitName(options.split);
  std::string kinds;
  for (const MatrixKind* kind : options.kinds) {
    kinds += fmt::format(" {}", kind->name);
  }
  return fmt::format("auto, ratio {},{} of layers from {}{}", options.ratio,
                     kinds, options.first_layer,
                     options.last_layer == INT64_MAX
                         ? ""
                         : fmt::format(" to {}", options.last_layer));
}

Json OptionsJson(const CompressPlan& plan) {
  const CompressOptions& options = plan.options;
  const Json format = DescribeFormat(plan.format);
  Json json = {
      {"command", "compress"},
      {"mobe", MOBE_VERSION},
      {"num_B", format.at("num_bases")},
      {"rank", format.at("rank")},
      {"basis_rank", format.at("basis_rank")},
      {"groups", format.at("groups")},
      {"alphas", options.max_alphas},
      {"activation", format.at("activation")},
      {"layers", format.at("layers")},
      {"matrices", format.at("matrices")},
      {"shapes", format.at("factors")},
      {"split", SplitOf(options)},
      {"solver", options.solver->name},
      {"passes", options.budget.passes},
      {"seconds", options.budget.seconds},
      {"seed", options.seed},
      {"shard_bytes", options.shard_bytes},
      {"keep_fp8", options.keep_fp8},
      {"start", StartText(options)},
      {"calibrate", options.calibration ? options.calibration->hash : ""}};
  if (options.pack) json.update(RuleJson(*options.pack));
  if (options.pack && options.calibration) {
    json["refit_passes"] = options.pack->refit_passes;
  }
  return json;
}

std::string DeviceText(const CompressOptions& options) {
  const FitDevice& device = *options.devices.front();
  if (&device == &TheCpu()) return {};
  // Any card of the machine.
  const std::string& name = device.name();
  return fmt::format("{} ({})", name.substr(0, name.find(':')), device.kind());
}

int64_t JobsAtATime(const CompressOptions& options) {
  int64_t jobs = 0;
  for (const FitDevice* device : options.devices) jobs += device->jobs();
  return jobs;
}

fs::path MomentsPath(const fs::path& out) {
  return out / Journal::kFolder / "moments.safetensors";
}

std::vector<double> CostsOf(const CompressPlan& plan) {
  std::vector<double> costs;
  for (const FactorJob& job : plan.jobs) {
    costs.push_back(static_cast<double>(job.groups) *
                    plan.options.solver->operations(job.fit).pass);
  }
  return costs;
}

std::vector<const TensorView*> InputsOf(const OpenedModel& model,
                                        const std::vector<FactorJob>& jobs) {
  std::vector<const TensorView*> inputs;
  for (const FactorJob& job : jobs) {
    for (const TensorDecl& tensor : job.tensors) {
      // A has the name of the matrix that it stands for; bases are new.
      const TensorView* input = model.checkpoint.Find(tensor.name);
      if (input == nullptr) continue;
      inputs.push_back(input);
      if (input->scales != nullptr) inputs.push_back(input->scales);
    }
  }
  return inputs;
}

std::string CheckWeights(const OpenedModel& model,
                         const std::vector<const TensorView*>& tensors) {
  std::vector<char> zero(tensors.size());
  ParallelFor(static_cast<int64_t>(tensors.size()), [&](int64_t i) {
    const TensorView& tensor = *tensors[i];
    zero[i] = LooksUnwritten(tensor, CheckFinite(model, tensor)) ? 1 : 0;
    model.checkpoint.Evict(tensor);
  });
  std::vector<std::string> names;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (zero[i] != 0) names.push_back(tensors[i]->name);
  }
  return UnwrittenWarning(model.checkpoint, std::move(names));
}

std::string CheckWeightsOnce(const OpenedModel& model,
                             const std::vector<const TensorView*>& tensors,
                             Journal* journal) {
  constexpr char kNote[] = "checked";
  const Json note = journal->Note(kNote);
  if (note.is_string()) return note;
  std::string warning = CheckWeights(model, tensors);
  journal->SetNote(kNote, warning);
  return warning;
}

CompressReport ReportOf(const CompressPlan& plan,
                        const std::vector<Json>& records) {
  CompressReport report;
  for (size_t i = 0; i < records.size(); ++i) {
    if (records[i].is_null()) continue;
    report.passes = records[i].at("passes");
    report.matrices.push_back(mobe::ReportOf(plan.jobs[i], records[i]));
    report.mse_scaled_mean += report.matrices.back().error.scaled_mse;
  }
  report.mse_scaled_mean /=
      std::max(static_cast<double>(report.matrices.size()), 1.0);
  return report;
}

CompressReport ReportOfRecipe(const fs::path& out) {
  CompressReport report;
  const std::optional<Recipe> recipe = ReadRecipe(out);
  report.already = true;
  report.mse_scaled_mean = recipe->mean_mse_scaled();
  for (const RecipeMatrix& matrix : recipe->matrices) {
    report.passes = matrix.passes;
    report.matrices.push_back(matrix);
  }
  report.resumed = static_cast<int64_t>(report.matrices.size());
  return report;
}

SayFn WarnThrough(const ProgressFn& progress) {
  return [progress](const std::string& line) { progress(Warning(line)); };
}

}  // namespace internal

namespace {

// Compress, but for what it says when it is stopped: StopWork.
CompressReport CompressUntilStopped(const OpenedModel& model,
                                    const CompressPlan& plan,
                                    const fs::path& out,
                                    const ProgressFn& progress,
                                    const TraceFn& trace, Ranks* ranks) {
  const double started =
      plan.options.started > 0 ? plan.options.started : MonotonicSeconds();
  const auto check_stop = [&] {
    if (plan.options.stop && plan.options.stop()) throw StopWork();
  };
  const int64_t workers =
      ranks != nullptr ? ranks->size()
                       : static_cast<int64_t>(plan.options.devices.size());
  for (const std::string& warning : CheckSideFiles(plan.side_files)) {
    progress(Warning(warning));
  }
  CheckFitMemory(plan);
  if (!IsFinished(out)) CheckDiskSpace(out, DiskBytes(plan, workers));
  const std::vector<bool> wanted = WantedJobs(plan);
  const auto tensors = TensorsToRead(model, plan, wanted);
  std::set<std::string> files;
  for (const TensorView* tensor : tensors) {
    files.insert(fs::path(model.checkpoint.FileOf(*tensor)).filename());
  }
  const bool part = plan.options.share.has_value();
  Journal journal(
      out, model.checkpoint.folder(), JournalOptions(plan),
      [&](const std::string& file) {
        check_stop();  // hashing one file takes seconds, all of them minutes
        return !part || files.contains(file);
      },
      internal::WarnThrough(progress));
  if (journal.finished()) return internal::ReportOfRecipe(out);
  if (part) journal.SetNote("arguments", plan.options.arguments);
  // Now, before hours of fitting, rather than at a layer's turn, or in verify
  // when it is only copied.
  const std::string zeros =
      internal::CheckWeightsOnce(model, tensors, &journal);
  if (!zeros.empty()) progress(Warning(zeros));
  // Other ranks wait for their first job, so for this too.
  if (plan.options.calibration) {
    EnsureMoments(*plan.options.calibration, out, plan.options.stop, progress);
  }

  // One process goes by layers: then few factors wait for their shard.
  JobQueue queue(ranks != nullptr ? internal::CostsOf(plan)
                                  : std::vector<double>(plan.jobs.size(), 1.0));
  Results results(model, plan, out,
                  static_cast<double>(std::ranges::count(wanted, true)),
                  progress, &journal);
  if (!part) KeepSoundShards(plan.shards, out, &journal);
  KeepSoundFactors(plan, out, &journal);
  std::vector<size_t> resumed;
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    const FactorJob& job = plan.jobs[i];
    const bool known = !journal.Record(job.layer, *job.kind).is_null();
    if (known || !wanted[i]) queue.Finish(i);
    if (known) resumed.push_back(i);
  }
  const int64_t passes = queue.AllFinished()
                             ? 0
                             : ResolvePasses(model, plan, out, workers, started,
                                             check_stop, &journal);
  {
    Crew crew(std::move(queue), passes, ranks,
              ranks != nullptr ? TermsOf(model, plan) : Json(),
              [&](int rank, size_t i, const Json& record) {
                const FactorJob& job = plan.jobs[i];
                journal.Adopt(job.layer, *job.kind, rank, record);
                journal.Finish(job.layer, *job.kind, record);
              });
    for (const size_t i : resumed) results.Add(i);
    const bool apart = internal::JobsAtATime(plan.options) > 1;
    std::mutex turn;  // of results and trace
    const auto add_news = [&] {
      for (const size_t i : crew.News()) results.Add(i);
    };
    // Does a job; false when none is left to begin.
    const auto run_next = [&](FitDevice* device, int64_t thread,
                              const std::function<void()>& check) {
      const std::optional<size_t> next = crew.Next(thread);
      if (!next) return false;
      const FactorJob& job = plan.jobs[*next];
      const auto check_all = [&] {
        crew.Check();
        check_stop();
        check();
      };
      const PassFn on_pass = [&](int64_t pass, int64_t all, double mse) {
        check_all();
        const std::lock_guard<std::mutex> lock(turn);
        if (trace) trace(job.layer, *job.kind, pass, mse);
        if (!apart) add_news();
        results.Show(job, static_cast<double>(pass) / static_cast<double>(all));
      };
      const fs::path path = journal.FactorsPath(job.layer, *job.kind);
      journal.Finish(job.layer, *job.kind,
                     internal::RunJob(model, plan, job, passes, device, out,
                                      path, on_pass, check_all));
      crew.Finish(*next);
      return true;
    };
    std::optional<DeviceWorkers> threads;
    if (apart) {
      threads.emplace(
          plan.options.devices,
          [&](FitDevice* device, int64_t thread, const DeviceWorkers& all) {
            return run_next(device, thread, [&] {
              if (all.ending()) throw StopWork();
            });
          });
    }
    for (;;) {
      crew.Check();
      check_stop();
      if (apart) threads->Check();
      {
        const std::lock_guard<std::mutex> lock(turn);
        add_news();
      }
      if (!part) results.WriteShards(check_stop);
      if (results.Complete()) break;
      // Where nothing is left to begin, the rest is running elsewhere.
      if (apart || !run_next(plan.options.devices.front(), 0, [] {})) {
        crew.Wait();
      }
    }
  }
  CompressReport report = internal::ReportOf(plan, results.records());
  report.resumed = static_cast<int64_t>(resumed.size());
  if (part) {
    report.already = resumed.size() == report.matrices.size();
    return report;
  }
  FinishModel(model, plan, out, results.records(), journal);
  journal.Remove();
  return report;
}

}  // namespace

CompressReport Compress(const OpenedModel& model, const CompressPlan& plan,
                        const fs::path& out, const ProgressFn& progress,
                        const TraceFn& trace, Ranks* ranks) {
  try {
    return CompressUntilStopped(model, plan, out, progress, trace, ranks);
  } catch (const StopWork&) {
    const std::vector<bool> wanted = WantedJobs(plan);
    size_t finished = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const FactorJob& job = plan.jobs[i];
      if (wanted[i] && HasRecord(out, job.layer, *job.kind)) {
        ++finished;
      }
    }
    throw Stopped(fmt::format(
        "stopped; run the same command to continue: {} of {} matrices are "
        "finished",
        finished, std::ranges::count(wanted, true)));
  }
}

void HelpCompress(const OpenedModel& model, const CompressPlan& plan,
                  const fs::path& out, Ranks* ranks) {
  CheckFitMemory(plan);
  WorkForRank0(
      ranks, TermsOf(model, plan), [&](size_t i, int64_t passes) -> Json {
        const FactorJob& job = plan.jobs.at(i);
        if (!Exists(out / Journal::kFolder)) {
          Fail(ErrorKind::kUserInput,
               "{}: not there, though rank 0 made it; with several ranks OUT "
               "must be a folder that all machines share",
               (out / Journal::kFolder).string());
        }
        const auto check = [&] {
          if (ranks->ended()) throw StopWork();
          if (plan.options.stop && plan.options.stop()) {
            throw Stopped("stopped");  // rank 0 says how far all have come
          }
        };
        return internal::RunJob(
            model, plan, job, passes, plan.options.devices.front(), out,
            Journal::FactorsOfRank(out, job.layer, *job.kind, ranks->rank()),
            [&](int64_t, int64_t, double) { check(); }, check);
      });
}

}  // namespace mobe
