#include "compress/baseline.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "compress/finish.h"
#include "compress/model_card.h"
#include "compress/write_plain.h"
#include "kernels/blas.h"
#include "mobe/moments_file.h"
#include "mobe/tensors.h"

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
  PrepareBlas();                        // so does this
  const BaselineShape shape = ShapeOf(model, plan);
  const FactorJob* done = nullptr;  // the job whose matrices are in `product`
  Buffer<float> product;
  Journal* journal = nullptr;
  const auto run = [&](const FactorJob& job) {
    FitTarget target = LoadTarget(model, job.layer, *job.kind);
    if (plan.options.calibration) {
      LoadMoments(internal::MomentsPath(out), job.layer, *job.kind, &target);
    }
    product = baseline.fit(target, shape.num_bases,
                           RankForBudget(baseline, shape, BudgetOf(job)),
                           job.dtype());
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
    const int64_t size = shape.rows * shape.cols;
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
