#include "compress/baseline.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary.h"
#include "io/checkpoint_writer.h"
#include "mobe/moments_file.h"
#include "mobe/tensors.h"
#include "mobe/write_plain.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

BaselineShape ShapeOf(const OpenedModel& model, const CompressPlan& plan) {
  return {model.config.num_experts, model.config.expert_size,
          model.config.hidden_size, plan.format.factors.front().num_bases};
}

// Numbers that MoBE stores for the job's matrices.
int64_t BudgetOf(const FactorJob& job) {
  int64_t numbers = 0;
  for (const TensorDecl& tensor : job.tensors) numbers += tensor.elements();
  return numbers;
}

}  // namespace

BaselineSize SizeBaseline(const OpenedModel& model, const CompressPlan& plan,
                          const Baseline& baseline) {
  if (plan.options.calibration && !baseline.calibrates) {
    Fail(ErrorKind::kUserInput, "method {} makes no use of --calibrate",
         baseline.name);
  }
  for (const FactorJob& job : plan.jobs) {
    if (!job.kind->transposed) continue;
    Fail(ErrorKind::kUserInput,
         "method {} approximates gate and up only; leave out --kinds {}",
         baseline.name, job.kind->name);
  }
  const BaselineShape shape = ShapeOf(model, plan);
  BaselineSize size;
  size.rank = RankForBudget(baseline, shape, BudgetOf(plan.jobs.front()));
  for (const FactorJob& job : plan.jobs) {
    const int64_t rank = RankForBudget(baseline, shape, BudgetOf(job));
    const int64_t each = DTypeSize(job.dtype());
    size.factor_bytes += baseline.Parameters(shape, rank) * each;
    size.mobe_factor_bytes += BudgetOf(job) * each;
  }
  return size;
}

CompressReport CompressByBaseline(const OpenedModel& model,
                                  const CompressPlan& plan,
                                  const Baseline& baseline, const fs::path& out,
                                  const ProgressFn& progress) {
  SizeBaseline(model, plan, baseline);  // fails before anything is written
  CheckOutputFolder(out);  // nor a job of ours: its matrices are hours of work
  const Temporary moments{out / "moments.safetensors"};
  if (plan.options.calibration) {
    MakeFolder(out);
    plan.options.calibration->collect(moments.path, progress);
  }
  const BaselineShape shape = ShapeOf(model, plan);
  CompressReport report;
  const FactorJob* done = nullptr;  // the job whose matrices are in `product`
  Buffer<float> product;
  const auto run = [&](const FactorJob& job) {
    FitTarget target = LoadTarget(model, job.layer, *job.kind);
    if (plan.options.calibration) {
      LoadMoments(moments.path, job.layer, *job.kind, &target);
    }
    product = baseline.fit(target, shape.num_bases,
                           RankForBudget(baseline, shape, BudgetOf(job)),
                           job.dtype());
    const FitError error =
        MeasureDifference(target, [&](int64_t expert, float* matrix) {
          std::copy_n(product.data() + expert * target.matrix_size(),
                      target.matrix_size(), matrix);
        });
    report.matrices.push_back({job.layer, job.kind->name, error});
    report.mse_scaled_mean +=
        error.scaled_mse / static_cast<double>(plan.jobs.size());
    done = &job;
  };
  const auto compute = [&](const TensorSpec& spec, float* values) {
    const auto job =
        std::ranges::find_if(plan.jobs, [&](const FactorJob& candidate) {
          return candidate.layer == spec.layer &&
                 candidate.kind->expert == spec.role;
        });
    if (job == plan.jobs.end()) return false;
    if (done != &*job) run(*job);
    const int64_t size = shape.rows * shape.cols;
    std::copy_n(product.data() + spec.expert * size, size, values);
    return true;
  };
  WritePlainOptions write;
  write.stop = plan.options.stop;
  WritePlain(model, out, plan.options.shard_bytes, compute, progress, write);
  return report;
}

}  // namespace mobe
