#include "compress/baseline.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/limits.h"
#include "compress/finish.h"
#include "compress/model_card.h"
#include "compress/write_plain.h"
#include "fit/device.h"
#include "kernels/blas.h"
#include "mobe/moments_file.h"
#include "mobe/tensors.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// Numbers that MoBE stores for the job's matrices.
int64_t BudgetOf(const FactorJob& job) {
  int64_t numbers = 0;
  for (const TensorDecl& tensor : job.tensors) numbers += tensor.elements();
  return numbers;
}

// The baseline's fit of a job, of the largest rank in MoBE's place.
FitShape ShapeOf(const FactorJob& job, const Method& baseline) {
  FitShape shape = job.fit;
  // Of all experts at once, whatever MoBE's groups.
  shape.experts *= job.groups;
  shape.num_bases *= job.groups;
  shape.pairs *= job.groups;
  shape.rank = RankForBudget(baseline, shape, BudgetOf(job));
  return shape;
}

}  // namespace

BaselineSize SizeBaseline(const CompressPlan& plan, const Method& baseline) {
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
  BaselineSize size;
  for (const FactorJob& job : plan.jobs) {
    const FitShape shape = ShapeOf(job, baseline);
    const int64_t each = DTypeSize(job.dtype());
    if (size.rank == 0) size.rank = shape.rank;
    size.factor_bytes += baseline.numbers(shape) * each;
    size.mobe_factor_bytes += BudgetOf(job) * each;
    size.operations += baseline.operations(shape).Total(/*passes=*/0);
    size.fit_bytes =
        std::max(size.fit_bytes, baseline.memory(shape, TheCpu()).host);
  }
  return size;
}

CompressReport CompressByBaseline(const OpenedModel& model,
                                  const CompressPlan& plan,
                                  const Method& baseline, const fs::path& out,
                                  const ProgressFn& progress) {
  // Both fail before anything is written.
  CheckMemory(SizeBaseline(plan, baseline).fit_bytes, "the fit");
  PrepareBlas();
  const FactorJob* done = nullptr;  // the job whose matrices are in `product`
  Buffer<float> product;
  Journal* journal = nullptr;
  const auto run = [&](const FactorJob& job) {
    FitTarget target = LoadTarget(model, job.layer, *job.kind);
    if (plan.options.calibration) {
      LoadMoments(internal::MomentsPath(out), job.layer, *job.kind, &target);
    }
    const FitShape shape = ShapeOf(job, baseline);
    product = baseline.approximate(target, {.num_bases = shape.num_bases,
                                            .rank = shape.rank,
                                            .stored = job.dtype()});
    const FitError error =
        MeasureDifference(target, [&](int64_t expert, float* matrix) {
          std::copy_n(product.data() + expert * target.matrix_size(),
                      target.matrix_size(), matrix);
        });
    journal->Finish(job.layer, *job.kind,
                    {{"trace", TraceJson({})},
                     {"passes", 0},
                     {"mse_scaled", error.scaled_mse},
                     {"relative", error.relative},
                     {"worst_expert", error.worst_expert},
                     {"worst_expert_index", error.worst_expert_index}});
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
    const int64_t size = job->fit.rows * job->fit.cols;
    std::copy_n(product.data() + spec.expert * size, size, values);
    return true;
  };
  WriteJob write;
  write.options = internal::OptionsJson(plan);
  write.options["command"] = fmt::format("compress --method {}", baseline.name);
  for (const char* unused : {"passes", "seconds", "solver", "start"}) {
    write.options.erase(unused);
  }
  write.shard_bytes = plan.options.shard_bytes;
  write.stop = plan.options.stop;
  write.new_card = BaselineCard;
  if (plan.options.calibration) {
    write.work_bytes = plan.options.calibration->bytes;
  }
  write.begin = [&](Journal* begun) {
    journal = begun;
    if (plan.options.calibration) {
      EnsureMoments(*plan.options.calibration, out, plan.options.stop,
                    progress);
    }
  };
  std::vector<Json> records;
  write.matrices = [&](Journal*) {
    Json matrices = Json::array();
    for (const FactorJob& job : plan.jobs) {
      records.push_back(journal->Record(job.layer, *job.kind));
      // Lost though its shard is there.
      if (records.back().is_null()) {
        run(job);
        records.back() = journal->Record(job.layer, *job.kind);
      }
      matrices.push_back(RecipeMatrixOf(job, records.back()));
    }
    return matrices;
  };
  const bool written =
      WritePlain(model, out, std::move(write), compute, progress);
  return written ? internal::ReportOf(plan, records)
                 : internal::ReportOfRecipe(out);
}

}  // namespace mobe
