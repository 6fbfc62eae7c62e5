#include "compress/job.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "compress/recipe.h"
#include "io/fp8.h"
#include "io/safetensors.h"
#include "kernels/kernels.h"
#include "mobe/expert_outputs.h"
#include "mobe/moments_file.h"
#include "mobe/parts.h"
#include "mobe/tensors.h"

namespace mobe::internal {

namespace fs = std::filesystem;

namespace {

// The start of the experts of a group from a file of starts, whose names have
// the group where those of the reference's files do.
Factors ReadStart(const SafetensorsFile& file, const FactorJob& job,
                  const ExpertGroup& group, const FitTarget& target) {
  const auto read = [&](const char* what, const std::vector<int64_t>& shape) {
    const std::string name = fmt::format(
        "model_layers_{}_mlp_{}_proj{}.{}_params", job.layer, job.kind->name,
        group.index < 0 ? "" : fmt::format("_group{}", group.index), what);
    const TensorView& tensor = file.At(name);
    if (tensor.shape != shape || !IsFloat(tensor.dtype)) {
      Fail(
          ErrorKind::kUserInput,
          "{}: tensor {} is {} {}, expected floats {} for this model and these "
          "bases",
          file.file().path().string(), name, DTypeName(tensor.dtype),
          tensor.shape, shape);
    }
    Buffer<float> values(tensor.elements());
    LoadFloats(tensor, values.data());
    return values;
  };
  const int64_t m = job.fit.num_bases;
  const int64_t rank = job.rank;
  Factors start;
  start.a = read("A", {target.experts, target.rows, rank});
  start.bases = read("B", {m, rank, target.cols});
  start.alpha = read("w", {target.experts, m});
  return start;
}

FitOptions FitOptionsOf(const CompressPlan& plan, const FactorJob& job) {
  FitOptions options;
  options.num_bases = job.fit.num_bases;
  options.rank = job.rank;
  options.basis_rank = job.basis_rank;
  options.max_alphas = plan.options.max_alphas;
  options.activation = plan.format.activation;
  options.solver = plan.options.solver;
  options.device = plan.options.devices.front();
  options.seed = plan.options.seed;
  options.stored = job.dtype();
  return options;
}

// Whether A is solved for again, towards what experts put out, once its bases
// are rounded (expert_rounding.h): the fit then needn't.
bool RoundsA(const CompressPlan& plan, const FactorJob& job) {
  if (!plan.RoundsByText()) return false;
  const TensorDecl& a = job.tensors.back();
  return FormatFor({job.kind->expert, job.layer, 0, a.name, a.shape},
                   *plan.options.pack) != nullptr;
}

// Fit, which does not know what it fits, when it is this job's turn.
Factors FitJob(const FactorJob& job, const FitTarget& target,
               const FitOptions& options, const PassFn& on_pass) {
  const std::lock_guard<std::mutex> turn(options.device->turn());
  try {
    return Fit(target, options, on_pass);
  } catch (const Error& e) {
    Fail(e.kind(), "layer {} {}: {}", job.layer, job.kind->name, e.what());
  }
}

// Writes those of the job's tensors that are of one group, the next ones.
void WriteFactors(const Family& family, const FactorJob& job,
                  const ExpertGroup& group, const Factors& factors,
                  SafetensorsWriter* writer) {
  const auto named = [&](auto name) {
    return name(family, job.layer, *job.kind, group.index);
  };
  const std::pair<std::string, const float*> shared[] = {
      {named(BasesName), factors.bases.data()},
      {named(LeftName), factors.bases_left.data()},
      {named(RightName), factors.bases_right.data()},
      {named(AlphaName), factors.alpha.data()}};
  Buffer<std::byte> stored;
  const float* a = factors.a.data();
  const size_t count = job.tensors.size() / static_cast<size_t>(job.groups);
  const size_t first =
      count * static_cast<size_t>(std::max<int64_t>(group.index, 0));
  for (const TensorDecl& tensor :
       std::span(job.tensors).subspan(first, count)) {
    const auto* const found = std::ranges::find(
        shared, tensor.name, [](const auto& row) { return row.first; });
    const float* values = found == std::end(shared) ? a : found->second;
    if (values == a) a += tensor.elements();
    stored.Resize(tensor.bytes());
    StoreFloats(values, tensor.elements(), tensor.dtype, stored.data());
    writer->Append(tensor.name,
                   {stored.data(), static_cast<size_t>(stored.size())});
  }
}

}  // namespace

StartedFit StartOf(const CompressPlan& plan, const FactorJob& job,
                   const ExpertGroup& group, const FitTarget& target) {
  StartedFit fit{FitOptionsOf(plan, job), nullptr};
  if (plan.options.start.empty()) return fit;
  fit.start = std::make_unique<Factors>(
      ReadStart(SafetensorsFile(plan.options.start), job, group, target));
  fit.options.start = fit.start.get();
  return fit;
}

Json RunJob(const OpenedModel& model, const CompressPlan& plan,
            const FactorJob& job, int64_t passes, FitDevice* device,
            const fs::path& out, const fs::path& path, const PassFn& on_pass,
            const std::function<void()>& check) {
  SafetensorsWriter writer(path, job.tensors);
  std::vector<ExpertError> errors;
  std::map<int64_t, double> trace;  // mean over the groups
  FitError error;
  int64_t done = 0;  // passes of earlier groups
  for (const ExpertGroup& group : GroupsOf(model.config, job)) {
    FitTarget target = LoadTarget(model, job.layer, *job.kind, group);
    if (plan.options.calibration) {
      LoadMoments(MomentsPath(out), job.layer, *job.kind,
                  model.config.num_experts, group, &target);
      if (!RoundsA(plan, job)) {
        target.outputs = OutputsOf(model, job.layer, *job.kind, group);
      }
    }
    for (int64_t e = 0; e < model.config.num_experts; ++e) {
      model.checkpoint.Evict(model.At(job.kind->expert, job.layer, e));
    }
    const StartedFit fit = StartOf(plan, job, group, target);
    FitOptions options = fit.options;
    options.passes = passes;
    options.device = device;
    options.check = check;
    const PassFn traced = [&](int64_t pass, int64_t all, double mse) {
      if (IsTraced(pass, all)) {
        trace[pass] += mse / static_cast<double>(job.groups);
      }
      on_pass(done + pass, job.groups * all, mse);
    };
    Factors factors = FitJob(job, target, options, traced);
    RoundFactors(options.stored, target.cols, &factors);
    std::ranges::copy(MeasureExperts(target, factors),
                      std::back_inserter(errors));
    error = ErrorOf(errors, target.scale, target.matrix_size());
    if (!std::isfinite(error.scaled_mse)) {
      Fail(ErrorKind::kUnsupported, "layer {} {}: the factors are not finite{}",
           job.layer, job.kind->name,
           options.stored == DType::kF16
               ? " in F16, the dtype of the weights; convert the model to BF16"
               : "; try another --seed");
    }
    WriteFactors(*model.family, job, group, factors, &writer);
    done += passes;
  }
  const FileSum sum = writer.Commit();
  std::vector<TracePoint> points;
  points.reserve(trace.size());
  for (const auto& [pass, mse] : trace) points.push_back({pass, mse});
  const std::string on = DeviceText(plan.options);
  return {{"kernels", on.empty() ? Kernels().name : on},
          {"sha256", sum.sha256},
          {"trace", TraceJson(points)},
          {"passes", passes},
          {"mse_scaled", error.scaled_mse},
          {"relative", error.relative},
          {"worst_expert", error.worst_expert},
          {"worst_expert_index", error.worst_expert_index}};
}

}  // namespace mobe::internal
