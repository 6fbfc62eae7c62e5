#include "mobe/compress.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "io/checkpoint_writer.h"
#include "mobe/compress_shards.h"
#include "mobe/journal.h"
#include "mobe/tensors.h"

namespace mobe {
namespace {

Json OptionsJson(const CompressPlan& plan) {
  const CompressOptions& options = plan.options;
  return {{"mobe", MOBE_VERSION},
          {"num_B", plan.format.num_bases},
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
Factors ReadStart(const SafetensorsFile& file, const FactorJob& job,
                  const FitTarget& target, const CompressPlan& plan) {
  const auto read = [&](const char* what, const std::vector<int64_t>& shape) {
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

// The budget in passes. A time budget is resolved once, from the speed of a few
// passes of the first matrix, and kept with the job.
int64_t ResolvePasses(const CompressPlan& plan, const FitTarget& target,
                      const FitOptions& options, Journal* journal) {
  const Budget& budget = plan.options.budget;
  if (budget.seconds == 0) return budget.passes;
  const Json note = journal->Note("passes");
  if (!note.is_null()) return note;
  constexpr int64_t kProbe = 4;
  FitOptions probe = options;
  probe.passes = kProbe;
  const double start = MonotonicSeconds();
  double first_pass = start;
  Fit(target, probe, [&](int64_t pass, int64_t, double) {
    if (pass == 1) first_pass = MonotonicSeconds();
  });
  const double now = MonotonicSeconds();
  const double each = (now - first_pass) / (kProbe - 1);
  // What is left of the budget, less the fixed cost of each matrix.
  const double fixed = std::max(now - start - kProbe * each, 0.0);
  const auto jobs = static_cast<double>(plan.jobs.size());
  const double seconds = budget.seconds / jobs - fixed * (1 + 1 / jobs);
  const auto passes =
      std::max<int64_t>(static_cast<int64_t>(seconds / each), 1);
  journal->SetNote("passes", passes);
  return passes;
}

void WriteFactors(const FactorJob& job, const Factors& factors,
                  const std::filesystem::path& path) {
  SafetensorsWriter writer(path, job.tensors);
  Buffer<std::byte> stored;
  int64_t expert = 0;
  for (const TensorDecl& tensor : job.tensors) {
    const float* values = nullptr;
    if (tensor.name == BasesName(job.layer, *job.kind)) {
      values = factors.bases.data();
    } else if (tensor.name == AlphaName(job.layer, *job.kind)) {
      values = factors.alpha.data();
    } else {
      values = factors.a.data() + expert++ * tensor.elements();
    }
    stored.Resize(tensor.bytes());
    StoreFloats(values, tensor.elements(), tensor.dtype, stored.data());
    writer.Append(tensor.name,
                  {stored.data(), static_cast<size_t>(stored.size())});
  }
  writer.Commit();
}

// Fits one job, stores its factors and then its record in the journal.
void RunJob(const OpenedModel& model, const CompressPlan& plan,
            const FactorJob& job, const PassFn& on_pass, Journal* journal) {
  const FitTarget target = LoadTarget(model, job.layer, *job.kind);
  for (int64_t e = 0; e < model.config.num_experts; ++e) {
    model.checkpoint.Evict(model.At(job.kind->expert, job.layer, e));
  }
  FitOptions options;
  options.num_bases = plan.format.num_bases;
  options.rank = plan.format.rank;
  options.activation = plan.format.activation;
  options.solver = plan.options.solver;
  options.seed = plan.options.seed;
  options.stored = job.dtype();
  Factors start;
  if (!plan.options.start.empty()) {
    start = ReadStart(SafetensorsFile(plan.options.start), job, target, plan);
    options.start = &start;
  }
  options.passes = ResolvePasses(plan, target, options, journal);
  Factors factors = Fit(target, options, on_pass);
  for (Buffer<float>* values : {&factors.a, &factors.bases, &factors.alpha}) {
    RoundTo(options.stored, values);
  }
  const FitError error = MeasureFit(target, factors);
  if (!std::isfinite(error.scaled_mse)) {
    Fail(ErrorKind::kInternal,
         "layer {} {}: the fit did not stay finite; try another --seed",
         job.layer, job.kind->name);
  }
  WriteFactors(job, factors, journal->FactorsPath(job.layer, *job.kind));
  journal->Finish(job.layer, *job.kind,
                  {{"passes", options.passes},
                   {"mse_scaled", error.scaled_mse},
                   {"relative", error.relative},
                   {"worst_expert", error.worst_expert},
                   {"worst_expert_index", error.worst_expert_index}});
}

// Fails where a weight is not finite: now, before hours of fitting, rather than
// at its layer's turn, or in verify when it is only copied.
void CheckWeights(const OpenedModel& model, Journal* journal) {
  if (!journal->Note("checked").is_null()) return;
  const auto& tensors = model.checkpoint.tensors();
  ParallelFor(static_cast<int64_t>(tensors.size()), [&](int64_t i) {
    CheckFinite(model, *tensors[i]);
    model.checkpoint.Evict(*tensors[i]);
  });
  journal->SetNote("checked", true);
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

}  // namespace

CompressReport Compress(const OpenedModel& model, const CompressPlan& plan,
                        const std::filesystem::path& out,
                        const ProgressFn& progress, const TraceFn& trace) {
  Journal journal(out, model.checkpoint.folder(), OptionsJson(plan));
  CheckWeights(model, &journal);
  CompressReport report;
  const auto jobs = static_cast<double>(plan.jobs.size());
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    const FactorJob& job = plan.jobs[i];
    const auto done = static_cast<double>(i);
    if (!journal.Record(job.layer, *job.kind).is_null()) {
      ++report.resumed;
    } else {
      const std::string what =
          fmt::format("layer {} {}", job.layer, job.kind->name);
      const PassFn on_pass = [&](int64_t pass, int64_t passes, double mse) {
        if (trace) trace(job.layer, *job.kind, pass, mse);
        const double part =
            static_cast<double>(pass) / static_cast<double>(passes);
        progress({(done + part) / jobs, what, ""});
      };
      RunJob(model, plan, job, on_pass, &journal);
    }
    const Json record = journal.Record(job.layer, *job.kind);
    const MatrixReport matrix = ReportOf(job, record);
    report.passes = record.at("passes");
    report.mse_scaled_mean += matrix.error.scaled_mse / jobs;
    report.matrices.push_back(matrix);
    progress({(done + 1) / jobs, "", ReportLine(matrix)});
    WriteReadyShards(model, plan, out, i + 1, &journal);
  }
  FinishCheckpoint(
      out, plan.shards, model.checkpoint.folder(),
      FactoredConfig(model.checkpoint.config(), model.config, plan.format));
  journal.Remove();
  return report;
}

}  // namespace mobe
