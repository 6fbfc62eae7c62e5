// mobe compress MODEL OUT
#include "compress/compress.h"

#include <fmt/core.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "cli/choose_bits.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/compress_arguments.h"
#include "cli/compress_to_bytes.h"
#include "cli/expect.h"
#include "cli/make_plan.h"
#include "cli/output_file.h"
#include "cli/print_compressed.h"
#include "cli/print_plan.h"
#include "cli/progress_bar.h"
#include "cli/stop_signals.h"
#include "cli/trace_file.h"
#include "compress/baseline.h"
#include "compress/bit_choice.h"
#include "compress/crew.h"
#include "compress/estimate.h"
#include "compress/journal.h"
#include "compress/worst_expert.h"
#include "fit/method.h"
#include "io/checkpoint_writer.h"

namespace mobe {
namespace {

// What goes with --bytes: a fit of gate and up whose factors layers may take.
void CheckSizeOptions(const CompressArguments& arguments) {
  CheckHasText(arguments.size, arguments.calibrate, arguments.moments);
  if (arguments.kinds || arguments.ratio || arguments.split == "auto" ||
      arguments.method != "mobe" || !arguments.pack.format.empty() ||
      !arguments.shard.empty() || !arguments.trace.path.empty() ||
      arguments.keep_fp8) {
    Fail(ErrorKind::kUserInput,
         "--bytes and --bpw choose forms and formats: leave out --kinds, "
         "--ratio, --split, --method, --format, --shard, --trace and "
         "--keep-fp8");
  }
}

// What a run would warn of when it begins.
void WarnOfSideFiles(const CompressPlan& plan) {
  for (const std::string& warning : CheckSideFiles(plan.side_files)) {
    PrintWarning(warning);
  }
}

// --method svd and the like: nothing is fitted in passes, and the result is a
// plain model.
void RunBaseline(const CompressArguments& arguments,
                 const CommonOptions& common, const OpenedModel& model,
                 const CompressPlan& plan) {
  if (!arguments.budget.empty() || !arguments.passes.empty() ||
      !arguments.time.empty() || !arguments.start.empty() ||
      !arguments.trace.path.empty() || !arguments.shard.empty() ||
      arguments.activation || arguments.alphas || arguments.keep_fp8 ||
      !arguments.pack.format.empty() || arguments.device != "auto") {
    Fail(ErrorKind::kUserInput,
         "--budget, --passes, --time, --start, --trace, --shard, --activation, "
         "--alphas, --keep-fp8, --format and --device go with --method mobe");
  }
  const double start = MonotonicSeconds();
  const Method& baseline = *FindMethod(arguments.method);
  const BaselineSize size = SizeBaseline(plan, baseline);
  Json json = {{"method", baseline.name},
               {"rank", size.rank},
               {"layers", plan.format.Layers()},
               {"factor_bytes", size.factor_bytes},
               {"mobe_factor_bytes", size.mobe_factor_bytes},
               {"operations", size.operations},
               {"fit_bytes", size.fit_bytes}};
  if (!common.json) {
    Print(
        "{} of rank {}, written as a plain model\n"
        "as factors gate and up would take {}, MoBE's {} ({} bases)\n"
        "memory of the fit: {}\n",
        baseline.name, size.rank,
        FormatBytes(static_cast<double>(size.factor_bytes)),
        FormatBytes(static_cast<double>(size.mobe_factor_bytes)),
        plan.format.factors.front().num_bases,
        FormatBytes(static_cast<double>(size.fit_bytes)));
  }
  if (arguments.dry_run) {
    WarnOfSideFiles(plan);
    json.update(SideFilesJson(plan.side_files));
    if (common.json) return PrintJson(json);
    return PrintSideFiles(plan.side_files);
  }
  CompressReport report;
  {
    ProgressBar bar(common);
    report = CompressByBaseline(model, plan, baseline, arguments.out,
                                bar.AsFunction());
  }
  json["mse_scaled_mean"] = report.mse_scaled_mean;
  json["seconds"] = MonotonicSeconds() - start;
  json["worst_expert"] = WorstJson(FindWorst(report.matrices));
  json["matrices"] = MatricesJson(report.matrices);
  json["already"] = report.already;
  if (common.json) return PrintJson(json);
  if (report.already) PrintAlready(arguments.out);
  Print("mean scaled MSE {:.5f}\n", report.mse_scaled_mean);
  PrintWorst(report);
}

// The process alone, or rank 0 of several.
void RunFirst(const CompressArguments& arguments,
              const std::vector<std::string>& recipe,
              const CommonOptions& common, Ranks* ranks) {
  const double start = MonotonicSeconds();
  if (!arguments.trace.path.empty()) {
    CheckOutputFile(
        arguments.trace, kTraceOutput, {arguments.model, arguments.out},
        {arguments.start, arguments.calibrate.file, arguments.moments});
  }
  const bool continues = OptionsOfJob(arguments.out).has_value();
  TraceFile trace_file(arguments.trace, arguments.out, continues);
  const OpenedModel model = OpenModel(arguments.model);
  CompressOptions options =
      OptionsOf(arguments, model, ranks != nullptr ? ranks->place() : 0);
  if (arguments.bases.size() > 1 &&
      (arguments.dry_run || options.budget.seconds > 0)) {
    Fail(ErrorKind::kUserInput,
         "--dry-run, and a budget of time, are of one fit: give --bases one "
         "number, or --passes");
  }
  options.arguments = recipe;
  options.started = start;
  options.stop = StopOnSignals();
  if (arguments.dry_run && !continues && !IsFinished(arguments.out)) {
    CheckOutputFolder(arguments.out, {Journal::kFolder});
  }
  if (arguments.size.given() && !arguments.dry_run) {
    return CompressToBytes(model, options, arguments.bases,
                           BytesOf(arguments.size, model),
                           arguments.pack.refit_passes, arguments.out, common);
  }
  CompressPlan plan;
  {
    ProgressBar bar(common);
    plan = MakePlan(model, options, arguments.calibrate, arguments.out,
                    arguments.dry_run ? KeepMoments::kNo : KeepMoments::kYes,
                    bar.AsFunction(), ranks);
  }
  const double split_seconds = MonotonicSeconds() - start;
  if (arguments.method != "mobe") {
    RunBaseline(arguments, common, model, plan);
    return;
  }
  if (arguments.size.given()) {
    CheckBytesBeforeFit(model, std::span(&plan.format, 1), RestOfModel({}),
                        BytesOf(arguments.size, model));
  }
  if (!common.json) {
    PrintPlan(plan);
    if (ranks != nullptr) {
      Print("{} ranks, {} threads in this one\n", ranks->size(), Threads());
    }
  }
  if (arguments.dry_run) {
    const JobEstimate estimate = EstimateCompression(
        model, plan, arguments.out, ranks != nullptr ? ranks->size() : 1);
    if (!estimate.warning.empty()) PrintWarning(estimate.warning);
    WarnOfSideFiles(plan);
    if (common.json) {
      Json json = PlanJson(plan);
      json.update(EstimateJson(estimate));
      json.update(SideFilesJson(plan.side_files));
      if (arguments.size.given()) {
        json["bytes_out"] = BytesOf(arguments.size, model);
      }
      if (options.split == Split::kAuto) json["split_seconds"] = split_seconds;
      PrintJson(json);
    } else {
      PrintEstimate(plan, estimate);
      PrintSideFiles(plan.side_files);
      if (arguments.size.given()) {
        Print("that is the fit; choosing and rounding to {} come after it\n",
              FormatBytes(static_cast<double>(BytesOf(arguments.size, model))));
      }
      if (options.split == Split::kAuto) {
        Print("besides: {} to choose the split, as it took now\n",
              FormatDuration(split_seconds));
      }
    }
    return;
  }
  TraceFn trace;
  if (!arguments.trace.path.empty()) {
    trace = [&](int64_t layer, const MatrixKind& kind, int64_t pass,
                double mse) {
      trace_file.Add(layer, kind.name, pass, MonotonicSeconds() - start, mse);
    };
  }
  CompressReport report;
  {
    ProgressBar bar(common);
    report =
        Compress(model, plan, arguments.out, bar.AsFunction(), trace, ranks);
  }
  trace_file.Close();
  if (!arguments.trace.path.empty() && !trace_file.is_written()) {
    PrintWarning(fmt::format(
        "--trace {}: not written, for no pass was run: all had been fitted",
        arguments.trace.path));
  }
  const double seconds = MonotonicSeconds() - start;
  if (common.json) {
    PrintJson(ReportJson(plan, report, seconds));
    return;
  }
  PrintReport(report, arguments.out, seconds);
  if (plan.options.share) {
    Print(
        "{} of {} matrices are in this part; next: mobe merge {} OUT "
        "PART...\n",
        report.matrices.size(), plan.jobs.size(), OneLine(arguments.model));
  }
}

void Run(const CompressArguments& arguments,
         const std::vector<std::string>& recipe, const CommonOptions& common) {
  if (arguments.size.given()) CheckSizeOptions(arguments);
  const std::unique_ptr<Ranks> ranks = Ranks::Join();
  if (ranks == nullptr) {
    RunFirst(arguments, recipe, common, nullptr);
    return;
  }
  if (arguments.method != "mobe") {
    Fail(ErrorKind::kUserInput, "--method {} is for one process, not for ranks",
         arguments.method);
  }
  if (arguments.size.given()) {
    Fail(ErrorKind::kUserInput,
         "--bytes and --bpw are for one process, not for {} ranks: compress "
         "with them, then quantize --bytes --factored",
         ranks->size());
  }
  if (common.threads == 0) SetThreads(ranks->threads());
  if (ranks->rank() != 0) {
    if (arguments.dry_run) return;  // nothing to do for it
    TellRank0(ranks.get(), [&] {
      const OpenedModel model = OpenModel(arguments.model);
      CompressOptions options = OptionsOf(arguments, model, ranks->place());
      options.stop = StopOnSignals();
      const CompressPlan plan = ReceivePlan(model, options, ranks.get());
      HelpCompress(model, plan, arguments.out, ranks.get());
    });
    return;
  }
  if (!arguments.shard.empty() || !arguments.trace.path.empty()) {
    Fail(ErrorKind::kUserInput,
         "--shard and --trace are for one process, not for {} ranks",
         ranks->size());
  }
  RunFirst(arguments, recipe, common, ranks.get());
}

// The recipe as it was written, for RunMerge.
std::vector<std::string> RecipeOf(const CLI::App& recipe) {
  std::vector<std::string> written;
  for (const CLI::Option* option : recipe.get_options()) {
    if (option->count() == 0) continue;
    written.push_back(option->get_name());
    if (option->get_items_expected_max() == 0) continue;  // a flag
    for (const std::string& value : option->results()) written.push_back(value);
  }
  return written;
}

}  // namespace

void AddCompress(CLI::App& app, CommonOptions* common) {
  auto* command = app.add_subcommand(
      "compress", "factor a model's experts; continues where it was stopped");
  auto arguments = std::make_shared<CompressArguments>();
  ExpectModel(
      command->add_option("model", arguments->model, "folder of the original"));
  command->add_option("out", arguments->out, "new folder for the result")
      ->required();
  CLI::App* recipe = command->add_option_group("recipe");
  AddRecipe(recipe, arguments.get());
  ExpectForm(
      command->add_option("--shard", arguments->shard,
                          "fit only share i of N (0/3, 1/3, 2/3), each with an "
                          "OUT of its own; then mobe merge"),
      ParseShare);
  command
      ->add_option("--device", arguments->device,
                   "what fits: cpu, cuda, cuda:1, cuda:all, or auto: a GPU "
                   "where there is one")
      ->capture_default_str();
  AddSizeOptions(command, &arguments->size);
  command->add_option("--trace", arguments->trace.path,
                      "CSV file for the error of each pass");
  AddForce(command, "the trace", &arguments->trace);
  std::vector<std::string> methods = {"mobe"};
  for (const Method* baseline : Baselines()) {
    methods.emplace_back(baseline->name);
  }
  ExpectOneOf(
      command->add_option("--method", arguments->method,
                          "mobe, or another method with as many bytes, written "
                          "as a plain model, to compare with"),
      methods)
      ->capture_default_str();
  command->add_flag("--dry-run", arguments->dry_run,
                    "print what would be done and stop");
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([=] { Run(*arguments, RecipeOf(*recipe), *common); });
}

}  // namespace mobe
