#include "mobe/compress.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "io/checkpoint_writer.h"
#include "mobe/journal.h"
#include "mobe/tensors.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// One matrix kind of one layer: the unit of work.
struct Job {
  int64_t layer;
  const MatrixKind* kind;
};

Json OptionsJson(const CompressPlan& plan) {
  const CompressOptions& options = plan.options;
  return {{"num_B", plan.format.num_bases},
          {"activation", ActivationName(plan.format.activation)},
          {"layers", plan.format.layers},
          {"solver", SolverName(options.solver)},
          {"passes", options.budget.passes},
          {"seconds", options.budget.seconds},
          {"seed", options.seed},
          {"shard_bytes", options.shard_bytes},
          {"start", options.start.empty() ? "" : HashFile(options.start)}};
}

// The start of one matrix from a file of starts.
Factors ReadStart(const SafetensorsFile& file, const Job& job,
                  const FitTarget& target, const CompressPlan& plan) {
  const auto read = [&](const char* what, std::vector<int64_t> shape) {
    const std::string name =
        fmt::format("model_layers_{}_mlp_{}_proj.{}_params", job.layer,
                    job.kind->name, what);
    const TensorView& tensor = file.At(name);
    if (tensor.shape != shape || !IsFloat(tensor.dtype)) {
      Fail(ErrorKind::kUserInput,
           "{}: tensor {} does not fit the model and the number of bases",
           file.file().path().string(), name);
    }
    Buffer<float> values(tensor.elements());
    LoadAsFloats(tensor.dtype, tensor.data.data(), values.size(),
                 values.data());
    return values;
  };
  const int64_t m = plan.format.num_bases;
  const int64_t rank = plan.format.rank;
  Factors start;
  start.a = read("A", {target.experts, target.rows, rank});
  start.bases = read("B", {m, rank, target.cols});
  start.alpha = read("w", {target.experts, m});
  return start;
}

class CompressJob {
 public:
  CompressJob(const OpenedModel& model, const CompressPlan& plan,
              const fs::path& out, const ProgressFn& progress,
              const TraceFn& trace)
      : model_(model),
        plan_(plan),
        out_(out),
        progress_(progress),
        trace_(trace),
        journal_(out, model.checkpoint.folder(), OptionsJson(plan)) {
    for (const int64_t layer : plan.format.layers) {
      for (const MatrixKind& kind : kMatrixKinds)
        jobs_.push_back({layer, &kind});
    }
    if (!plan.options.start.empty()) {
      start_ = std::make_unique<SafetensorsFile>(plan.options.start);
    }
    for (const Job& job : jobs_) {
      job_of_[BasesName(job.layer, *job.kind)] = &job;
      job_of_[AlphaName(job.layer, *job.kind)] = &job;
      for (int64_t e = 0; e < model.config.num_experts; ++e) {
        job_of_[TensorName(*model.family, job.kind->expert, job.layer, e)] =
            &job;
      }
    }
  }

  CompressReport Run() {
    CheckCopied();
    for (size_t i = 0; i < jobs_.size(); ++i) {
      done_ = static_cast<double>(i) / static_cast<double>(jobs_.size());
      const bool have =
          !journal_.Record(jobs_[i].layer, *jobs_[i].kind).is_null();
      if (have) {
        ++report_.resumed;
      } else {
        FitMatrix(jobs_[i]);
      }
      AddToReport(jobs_[i]);
      WriteReadyShards(i + 1);
    }
    WriteReadyShards(jobs_.size());
    FinishCheckpoint(out_, plan_.shards, model_.checkpoint.folder(),
                     FactoredConfig(model_.checkpoint.config(), model_.config,
                                    plan_.format));
    journal_.Remove();
    report_.mse_scaled_mean /= static_cast<double>(jobs_.size());
    return std::move(report_);
  }

 private:
  // Fails where a weight that is only copied is not finite: now, before hours
  // of fitting, rather than at the end in verify.
  void CheckCopied() {
    if (!journal_.Note("checked").is_null()) return;
    const auto& tensors = model_.checkpoint.tensors();
    ParallelFor(static_cast<int64_t>(tensors.size()), [&](int64_t i) {
      if (job_of_.contains(tensors[i]->name)) return;
      CheckFinite(model_, *tensors[i]);
      model_.checkpoint.Evict(*tensors[i]);
    });
    journal_.SetNote("checked", true);
  }

  void FitMatrix(const Job& job) {
    const FitTarget target = LoadTarget(model_, job.layer, *job.kind);
    EvictExperts(job);
    FitOptions options;
    options.num_bases = plan_.format.num_bases;
    options.rank = plan_.format.rank;
    options.activation = plan_.format.activation;
    options.solver = plan_.options.solver;
    options.seed = plan_.options.seed;
    options.stored = DTypeOf(BasesName(job.layer, *job.kind));
    Factors start;
    if (start_) {
      start = ReadStart(*start_, job, target, plan_);
      options.start = &start;
    }
    options.passes = Passes(target, options);
    const std::string what =
        fmt::format("layer {} {}", job.layer, job.kind->name);
    Factors factors = Fit(target, options, [&](int64_t pass, double mse) {
      if (trace_) trace_(job.layer, *job.kind, pass, mse);
      const double part = static_cast<double>(pass) /
                          static_cast<double>(options.passes) /
                          static_cast<double>(jobs_.size());
      progress_({done_ + part, what, ""});
    });
    for (Buffer<float>* values : {&factors.a, &factors.bases, &factors.alpha}) {
      RoundTo(options.stored, values);
    }
    const FitError error = MeasureFit(target, factors);
    if (!std::isfinite(error.scaled_mse)) {
      Fail(ErrorKind::kInternal,
           "{}: the fit did not stay finite; try another "
           "--seed",
           what);
    }
    WriteFactors(job, factors);
    journal_.Finish(job.layer, *job.kind,
                    {{"passes", options.passes},
                     {"mse_scaled", error.scaled_mse},
                     {"relative", error.relative},
                     {"worst_expert", error.worst_expert},
                     {"worst_expert_index", error.worst_expert_index}});
  }

  // The budget in passes. A time budget is resolved once, from the speed of a
  // few passes of the first matrix, and kept with the job.
  int64_t Passes(const FitTarget& target, const FitOptions& options) {
    const Budget& budget = plan_.options.budget;
    if (budget.seconds == 0) return budget.passes;
    const Json note = journal_.Note("passes");
    if (!note.is_null()) return note;
    constexpr int64_t kProbe = 4;
    FitOptions probe = options;
    probe.passes = kProbe;
    const double start = MonotonicSeconds();
    double first_pass = start;
    Fit(target, probe, [&](int64_t pass, double) {
      if (pass == 1) first_pass = MonotonicSeconds();
    });
    const double now = MonotonicSeconds();
    const double each = (now - first_pass) / (kProbe - 1);
    // What is left of the budget, less the fixed cost of each matrix.
    const double fixed = std::max(now - start - kProbe * each, 0.0);
    const auto jobs = static_cast<double>(jobs_.size());
    const double seconds = budget.seconds / jobs - fixed * (1 + 1 / jobs);
    const auto passes =
        std::max<int64_t>(static_cast<int64_t>(seconds / each), 1);
    journal_.SetNote("passes", passes);
    return passes;
  }

  void WriteFactors(const Job& job, const Factors& factors) {
    const DType dtype = DTypeOf(BasesName(job.layer, *job.kind));
    std::vector<TensorDecl> tensors;
    for (const Shard& shard : plan_.shards) {
      for (const TensorDecl& tensor : shard.tensors) {
        const auto found = job_of_.find(tensor.name);
        if (found != job_of_.end() && found->second == &job) {
          tensors.push_back(tensor);
        }
      }
    }
    SafetensorsWriter writer(journal_.FactorsPath(job.layer, *job.kind),
                             tensors);
    Buffer<std::byte> stored;
    int64_t expert = 0;
    for (const TensorDecl& tensor : tensors) {
      const float* values = nullptr;
      if (tensor.name == BasesName(job.layer, *job.kind)) {
        values = factors.bases.data();
      } else if (tensor.name == AlphaName(job.layer, *job.kind)) {
        values = factors.alpha.data();
      } else {
        values = factors.a.data() + expert++ * tensor.elements();
      }
      stored.Resize(tensor.bytes());
      StoreFloats(values, tensor.elements(), dtype, stored.data());
      writer.Append(tensor.name,
                    {stored.data(), static_cast<size_t>(stored.size())});
    }
    writer.Commit();
  }

  void AddToReport(const Job& job) {
    const Json record = journal_.Record(job.layer, *job.kind);
    report_.passes = record.at("passes");
    MatrixReport matrix{job.layer, job.kind->name, {}};
    matrix.error.scaled_mse = record.at("mse_scaled");
    matrix.error.relative = record.at("relative");
    matrix.error.worst_expert = record.at("worst_expert");
    matrix.error.worst_expert_index = record.at("worst_expert_index");
    report_.mse_scaled_mean += matrix.error.scaled_mse;
    progress_({done_ + 1.0 / static_cast<double>(jobs_.size()), "",
               fmt::format("layer {:3} {:4}  scaled MSE {:.5f}  relative error "
                           "{:.4f}  worst expert {:.4f} ({})",
                           job.layer, job.kind->name, matrix.error.scaled_mse,
                           matrix.error.relative, matrix.error.worst_expert,
                           matrix.error.worst_expert_index)});
    report_.matrices.push_back(std::move(matrix));
  }

  // Writes every shard whose factors are all among the first `finished` jobs,
  // then drops factors that no unwritten shard needs.
  void WriteReadyShards(size_t finished) {
    std::set<const Job*> needed;
    for (const Shard& shard : plan_.shards) {
      if (fs::exists(out_ / shard.file)) continue;
      std::set<const Job*> parts;
      for (const TensorDecl& tensor : shard.tensors) {
        const auto found = job_of_.find(tensor.name);
        if (found != job_of_.end()) parts.insert(found->second);
      }
      const bool ready =
          std::all_of(parts.begin(), parts.end(),
                      [&](auto* job) { return job < jobs_.data() + finished; });
      if (ready) {
        Write(shard);
      } else {
        needed.insert(parts.begin(), parts.end());
      }
    }
    for (size_t i = 0; i < finished; ++i) {
      if (!needed.contains(&jobs_[i])) {
        journal_.DropFactors(jobs_[i].layer, *jobs_[i].kind);
      }
    }
  }

  void Write(const Shard& shard) {
    // The factors' file of the tensor before, kept open: tensors of one job
    // are neighbours.
    const Job* open_job = nullptr;
    std::unique_ptr<SafetensorsFile> open;
    WriteShard(out_, shard,
               [&](const TensorDecl& tensor, const ByteSink& sink) {
                 const auto found = job_of_.find(tensor.name);
                 if (found == job_of_.end()) {
                   const TensorView& view = model_.checkpoint.At(tensor.name);
                   sink(view.data);
                   model_.checkpoint.Evict(view);
                   return;
                 }
                 if (found->second != open_job) {
                   open_job = found->second;
                   open = std::make_unique<SafetensorsFile>(
                       journal_.FactorsPath(open_job->layer, *open_job->kind));
                 }
                 sink(open->At(tensor.name).data);
               });
  }

  void EvictExperts(const Job& job) {
    for (int64_t e = 0; e < model_.config.num_experts; ++e) {
      model_.checkpoint.Evict(model_.At(job.kind->expert, job.layer, e));
    }
  }

  DType DTypeOf(const std::string& name) const {
    for (const Shard& shard : plan_.shards) {
      for (const TensorDecl& tensor : shard.tensors) {
        if (tensor.name == name) return tensor.dtype;
      }
    }
    Fail(ErrorKind::kInternal, "tensor {} is not planned", name);
  }

  const OpenedModel& model_;
  const CompressPlan& plan_;
  const fs::path out_;
  const ProgressFn& progress_;
  const TraceFn& trace_;
  Journal journal_;
  std::vector<Job> jobs_;
  std::unordered_map<std::string, const Job*> job_of_;  // by tensor name
  std::unique_ptr<SafetensorsFile> start_;
  CompressReport report_;
  double done_ = 0;  // share of the jobs finished
};

}  // namespace

CompressReport Compress(const OpenedModel& model, const CompressPlan& plan,
                        const fs::path& out, const ProgressFn& progress,
                        const TraceFn& trace) {
  return CompressJob(model, plan, out, progress, trace).Run();
}

}  // namespace mobe
