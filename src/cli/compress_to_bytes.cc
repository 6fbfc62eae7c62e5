#include "cli/compress_to_bytes.h"

#include <fmt/core.h>

#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/limits.h"
#include "cli/choose_bits.h"
#include "cli/print_plan.h"
#include "cli/print_quantized.h"
#include "cli/progress_bar.h"
#include "compress/bit_choice.h"
#include "compress/journal.h"
#include "fit/refit.h"
#include "io/checkpoint_writer.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// The fit reads what is already there of the text.
Calibration LinkTo(const fs::path& moments, Calibration calibration) {
  calibration.bytes = 0;
  calibration.collect = [moments](const fs::path& file, const ProgressFn&) {
    std::error_code error;
    fs::remove(file, error);
    fs::create_hard_link(moments, file, error);
    if (error) fs::copy_file(moments, file);  // a disk that knows none
  };
  return calibration;
}

}  // namespace

void CompressToBytes(const OpenedModel& model, const CompressOptions& fit,
                     const std::vector<int64_t>& bases, int64_t bytes,
                     int64_t refit_passes, const std::string& out,
                     const CommonOptions& common) {
  const double start = MonotonicSeconds();
  BitBudget budget = {.command = "compress",
                      .bytes = bytes,
                      .factored = {},
                      .refit_passes = refit_passes};
  std::vector<CompressPlan> plans;
  for (const int64_t num_bases :
       bases.empty() ? std::vector{*fit.num_bases} : bases) {
    CompressOptions options = fit;
    options.num_bases = num_bases;
    options.calibration = LinkTo(internal::MomentsPath(out), *fit.calibration);
    const CompressPlan& plan =
        plans.emplace_back(PlanCompression(model, options));
    const auto name = fmt::format("factored-{}", num_bases);
    budget.factored.push_back(
        {fs::path(out) / Journal::kFolder / name, internal::OptionsJson(plan)});
    if (refit_passes == 0) continue;
    for (const FactorJob& job : plan.jobs) {  // rather than after the fit
      CheckMemory(RefitBytes(job.fit),
                  "the refit, which --refit-passes 0 does without,");
    }
  }
  std::vector<MobeFormat> formats;
  for (const CompressPlan& plan : plans) formats.push_back(plan.format);
  CheckBytesBeforeFit(model, formats, RestOfModel(budget), bytes);
  QuantizeOptions quantize = {.rule = {},
                              .shard_bytes = fit.shard_bytes,
                              .stop = fit.stop,
                              .calibration = fit.calibration};
  std::optional<QuantizeReport> report;
  if (!IsChosenAndFinished(model, budget, *fit.calibration, out)) {
    if (!common.json) {
      for (const CompressPlan& plan : plans) PrintPlan(plan);
    }
    ProgressBar bar(common);
    if (!OptionsOfJob(out)) {
      CheckOutputFolder(out, {Journal::kFolder});
      const FolderLock lock(out);
      EnsureMoments(*fit.calibration, out, fit.stop, bar.AsFunction());
    }
    for (size_t i = 0; i < plans.size(); ++i) {
      Compress(model, plans[i], budget.factored[i].folder, bar.AsFunction(),
               nullptr);
    }
    const std::optional<OpenedModel> mixed =
        ChooseBitsOnce(model, budget, out, bar.AsFunction(), &quantize);
    if (mixed) quantize.mixed = &*mixed;
    report = Quantize(model, out, quantize, bar.AsFunction());
  }
  PrintQuantized(out, std::move(report), quantize.choice,
                 MonotonicSeconds() - start, common);
}

}  // namespace mobe
