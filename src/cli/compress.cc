// mobe compress MODEL OUT, and mobe merge MODEL OUT PART...
#include "compress/compress.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <map>

#include "base/error.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "cli/calibrate_options.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/compress_to_bytes.h"
#include "cli/expect.h"
#include "cli/make_plan.h"
#include "cli/output_file.h"
#include "cli/pack_options.h"
#include "cli/print_plan.h"
#include "cli/progress_bar.h"
#include "cli/size_options.h"
#include "cli/stop_signals.h"
#include "compress/baseline.h"
#include "compress/crew.h"
#include "compress/estimate.h"
#include "compress/journal.h"
#include "compress/presets.h"
#include "compress/worst_expert.h"
#include "fit/devices.h"
#include "fit/method.h"

namespace mobe {
namespace {

struct CompressArguments {
  std::string model;
  std::string out;
  std::optional<std::string> kinds;
  std::string split = "even";
  std::optional<int64_t> bases;
  std::optional<double> ratio;
  std::optional<int64_t> rank;
  std::optional<int64_t> basis_rank;
  std::optional<int64_t> alphas;
  std::optional<int64_t> groups;
  std::optional<std::string> activation;
  std::string layers;
  std::string solver = "fast";
  std::string device = "auto";
  std::string budget;
  std::string passes;
  std::string time;
  double shard_gigabytes = 5;
  bool keep_fp8 = false;
  std::string start;
  OutputFile trace;
  std::string shard;
  CalibrateOptions calibrate;
  std::string moments;
  PackOptions pack;
  SizeOptions size;
  std::string method = "mobe";
  uint64_t seed = 0;
  bool dry_run = false;
};

struct LayerRange {
  int64_t first = 0;
  int64_t last = INT64_MAX;
};

// "3" or "0-5", both inclusive.
LayerRange ParseLayers(const std::string& text) {
  const size_t dash = text.find('-');
  const auto number = [&](std::string_view part) {
    int64_t value = -1;
    const auto [end, error] =
        std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc() || end != part.data() + part.size() || value < 0) {
      Fail(ErrorKind::kUserInput,
           "--layers {}: expected a layer (3) or a range (0-5)", text);
    }
    return value;
  };
  const std::string_view view = text;
  LayerRange range;
  range.first = number(view.substr(0, dash));
  range.last =
      dash == std::string::npos ? range.first : number(view.substr(dash + 1));
  if (range.first > range.last) {
    Fail(ErrorKind::kUserInput, "--layers {}: the range is empty", text);
  }
  return range;
}

// "gate,up,down" or fewer of them, in any order.
std::vector<const MatrixKind*> ParseKinds(const std::string& text) {
  std::vector<const MatrixKind*> kinds;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const auto* kind = KindFromName(text.substr(at, comma - at));
    if (kind == nullptr || std::ranges::count(kinds, kind) != 0) {
      Fail(ErrorKind::kUserInput,
           "--kinds {}: expected some of gate, up and down, as gate,up", text);
    }
    kinds.push_back(kind);
    at = comma + 1;
  }
  return kinds;
}

// What goes with --bytes: a fit of gate and up whose factors layers may take.
void CheckSizeOptions(const CompressArguments& arguments) {
  if (arguments.calibrate.file.empty() && arguments.moments.empty()) {
    Fail(ErrorKind::kUserInput,
         "--bytes and --bpw choose by what errors do on a text: give one by "
         "--calibrate, or --moments");
  }
  if (arguments.kinds || arguments.ratio || arguments.split == "auto" ||
      arguments.method != "mobe" || !arguments.pack.format.empty() ||
      !arguments.shard.empty() || !arguments.trace.path.empty() ||
      arguments.keep_fp8 || arguments.dry_run) {
    Fail(ErrorKind::kUserInput,
         "--bytes and --bpw choose forms and formats: leave out --kinds, "
         "--ratio, --split, --method, --format, --shard, --trace, --keep-fp8 "
         "and --dry-run");
  }
}

// `place`: of this rank on its machine.
CompressOptions OptionsOf(const CompressArguments& arguments,
                          const OpenedModel& model, int place) {
  CompressOptions options;
  options.num_bases = arguments.bases;
  if (arguments.ratio) options.ratio = *arguments.ratio;
  options.rank = arguments.rank;
  options.basis_rank = arguments.basis_rank.value_or(0);
  const bool automatic = arguments.split == "auto";
  if (automatic) options.split = Split::kAuto;
  if (automatic && (options.num_bases || options.rank || arguments.basis_rank ||
                    arguments.method != "mobe")) {
    Fail(ErrorKind::kUserInput,
         "--split auto chooses bases and ranks of --method mobe: leave out "
         "--bases, --rank, --basis-rank and --method, or the split");
  }
  options.kinds = ParseKinds(arguments.kinds ? *arguments.kinds
                             : automatic     ? "gate,up,down"
                                             : "gate,up");
  options.max_alphas = arguments.alphas.value_or(0);
  if (arguments.groups) options.groups = *arguments.groups;
  if (arguments.activation) {
    options.activation = *ActivationFromName(*arguments.activation);
  }
  if (arguments.size.given()) {
    // What few bits take best (docs/fit.md).
    if (!options.num_bases) {
      options.num_bases = std::max<int64_t>(model.config.num_experts / 10, 1);
    }
    if (!arguments.activation) options.activation = Activation::kIdentity;
  }
  UsePreset(model,
            {options.num_bases || arguments.ratio, arguments.groups.has_value(),
             arguments.activation || arguments.size.given()},
            &options);
  options.solver = FindMethod(arguments.solver);
  if (arguments.method == "mobe") {
    const bool fits_here =
        arguments.device == "auto" && !options.solver->has_devices;
    options.devices = FindDevices(fits_here ? "cpu" : arguments.device, place);
  }
  options.seed = arguments.seed;
  options.start = arguments.start;
  if (!arguments.layers.empty()) {
    const LayerRange range = ParseLayers(arguments.layers);
    options.first_layer = range.first;
    options.last_layer = range.last;
  }
  if (!arguments.budget.empty()) options.budget = ParseBudget(arguments.budget);
  if (!arguments.passes.empty()) options.budget = ParsePasses(arguments.passes);
  if (!arguments.time.empty()) options.budget = ParseTime(arguments.time);
  if (!arguments.shard.empty()) options.share = ParseShare(arguments.shard);
  options.pack = ToPackRule(arguments.pack);
  if (!arguments.calibrate.file.empty()) {
    options.calibration = ToCalibration(arguments.calibrate, model,
                                        options.pack || arguments.size.given()
                                            ? CalibrationScope::kAll
                                            : CalibrationScope::kExperts);
  }
  if (!arguments.moments.empty()) {
    options.calibration = CalibrationFrom(arguments.moments, model);
  }
  options.keep_fp8 = arguments.keep_fp8;
  options.shard_bytes = static_cast<int64_t>(arguments.shard_gigabytes * 1e9);
  return options;
}

Json ReportJson(const CompressPlan& plan, const CompressReport& report,
                double seconds) {
  Json json = PlanJson(plan);
  json["mse_scaled_mean"] = report.mse_scaled_mean;
  json["seconds"] = seconds;
  json["peak_rss_bytes"] = PeakResidentBytes();
  json["passes"] = report.passes;
  json["resumed"] = report.resumed;
  json["already"] = report.already;
  json["worst_expert"] = WorstJson(FindWorst(report.matrices));
  json["matrices"] = MatricesJson(report.matrices);
  return json;
}

void PrintWorst(const CompressReport& report) {
  const MatrixReport* worst = FindWorst(report.matrices);
  if (worst != nullptr) Print("{}\n", WorstText(*worst));
}

void PrintReport(const CompressReport& report, const std::string& out,
                 double seconds) {
  if (report.already) return PrintAlready(out);
  if (report.resumed > 0) {
    Print("continued: {} matrices were finished before\n", report.resumed);
  }
  Print("mean scaled MSE {:.5f} in {}, peak memory {}\n",
        report.mse_scaled_mean, FormatDuration(seconds),
        FormatBytes(static_cast<double>(PeakResidentBytes())));
  PrintWorst(report);
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
  const OpenedModel model = OpenModel(arguments.model);
  CompressOptions options =
      OptionsOf(arguments, model, ranks != nullptr ? ranks->place() : 0);
  options.arguments = recipe;
  options.started = start;
  options.stop = StopOnSignals();
  if (arguments.size.given()) {
    return CompressToBytes(model, options, BytesOf(arguments.size, model),
                           arguments.out, common);
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
      if (options.split == Split::kAuto) json["split_seconds"] = split_seconds;
      PrintJson(json);
    } else {
      PrintEstimate(plan, estimate);
      PrintSideFiles(plan.side_files);
      if (options.split == Split::kAuto) {
        Print("besides: {} to choose the split, as it took now\n",
              FormatDuration(split_seconds));
      }
    }
    return;
  }
  std::ofstream trace_file;
  TraceFn trace;
  // A stream, not an AtomicFile: it is read while the job runs.
  const auto write_trace = [&](const std::string& line) {
    if (trace_file << line) return;
    Fail(ErrorKind::kDiskFull, "--trace {}: cannot be written",
         arguments.trace.path);
  };
  if (!arguments.trace.path.empty()) {
    trace = [&](int64_t layer, const MatrixKind& kind, int64_t pass,
                double mse) {
      // Not before: the trace of a run that had finished all stays.
      if (!trace_file.is_open()) {
        trace_file.open(arguments.trace.path);
        write_trace(std::string(kTraceOutput.bytes));
      }
      write_trace(fmt::format("{},{},{},{:.4f},{:.9g}\n", layer, kind.name,
                              pass, MonotonicSeconds() - start, mse));
    };
  }
  CompressReport report;
  {
    ProgressBar bar(common);
    report =
        Compress(model, plan, arguments.out, bar.AsFunction(), trace, ranks);
  }
  if (trace_file.is_open()) {
    trace_file.close();
    write_trace("");
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

// The options that make the model what it is: all that a merge has to know.
// What is not one of them is added in AddCompress.
void AddRecipe(CLI::App* recipe, CompressArguments* arguments) {
  ExpectForm(
      recipe->add_option("--kinds", arguments->kinds,
                         "matrices to factor: some of gate,up,down (default: "
                         "gate,up; all with --split auto)"),
      ParseKinds);
  const auto add_count = [recipe](const char* name, auto* value,
                                  const char* help) {
    return ExpectWhole(recipe->add_option(name, *value, help), 1);
  };
  auto* bases = add_count("--bases", &arguments->bases,
                          "number of bases of each layer and matrix kind");
  ExpectNumber(recipe
                   ->add_option("--ratio", arguments->ratio,
                                "share of the expert weights to keep (default: "
                                "the bases of the model's preset, or 0.75)")
                   ->excludes(bases),
               "a number above 0 and below 1",
               [](double ratio) { return ratio > 0 && ratio < 1; });
  add_count("--rank", &arguments->rank,
            "rank of the factors (default: the experts' size)");
  add_count("--basis-rank", &arguments->basis_rank,
            "store each basis as a product of this rank (default: whole)");
  ExpectOneOf(
      recipe->add_option("--split", arguments->split,
                         "of the ratio over layers and kinds: even, or auto, "
                         "by what an error of each does to the predictions"),
      {"even", "auto"})
      ->capture_default_str();
  add_count("--alphas", &arguments->alphas,
            "bases that one expert may use (default: all)");
  add_count("--groups", &arguments->groups,
            "groups of experts that share no bases, in each layer; the number "
            "of bases is that of all groups (default: the preset's, or 1)");
  ExpectOneOf(
      recipe->add_option("--activation", arguments->activation,
                         "function between bases and A: silu, tanh or identity "
                         "(default: the preset's, or silu)"),
      {"silu", "tanh", "identity"});
  ExpectForm(recipe->add_option("--layers", arguments->layers,
                                "layers to factor, as 3 or 0-5 (default: all)"),
             ParseLayers);
  std::vector<std::string> solvers;
  for (const Method* solver : Solvers()) solvers.emplace_back(solver->name);
  ExpectOneOf(recipe->add_option("--solver", arguments->solver,
                                 "fast, or the published algorithm"),
              solvers)
      ->capture_default_str();
  auto* passes =
      ExpectForm(recipe->add_option("--passes", arguments->passes,
                                    "passes of each matrix (default: 500)"),
                 ParsePasses);
  auto* time =
      ExpectForm(recipe
                     ->add_option("--time", arguments->time,
                                  "time of the whole job (90s, 10m, 2h)")
                     ->excludes(passes),
                 ParseTime);
  ExpectForm(recipe
                 ->add_option("--budget", arguments->budget,
                              "either: passes (500) or a time (2h)")
                 ->excludes(passes)
                 ->excludes(time),
             ParseBudget);
  ExpectWhole(recipe->add_option("--seed", arguments->seed, "seed of the start")
                  ->capture_default_str(),
              0, UINT64_MAX);
  AddShardSize(recipe, &arguments->shard_gigabytes);
  recipe->add_flag("--keep-fp8", arguments->keep_fp8,
                   "leave FP8 what is not factored (default: all BF16)");
  AddPackOptions(recipe, recipe, &arguments->pack);
  recipe->add_option("--start", arguments->start,
                     "safetensors file of starts for --solver reference");
  AddCalibrateOptions(recipe, "the experts", &arguments->calibrate);
  recipe
      ->add_option("--moments", arguments->moments,
                   "file that mobe calibrate wrote, instead of --calibrate")
      ->excludes(recipe->get_option("--calibrate"));
}

void RunMerge(const std::string& folder, const std::string& out,
              const std::vector<std::string>& parts,
              const CommonOptions& common) {
  const double start = MonotonicSeconds();
  // The recipe is what the first part was written with; Merge compares what it
  // comes to with all of them.
  CompressArguments arguments;
  arguments.device = "cpu";  // nothing is fitted
  CLI::App recipe;
  AddRecipe(&recipe, &arguments);
  try {
    std::vector<std::string> written = ReadNote(parts.front(), "arguments");
    std::ranges::reverse(written);  // as CLI11 wants them
    recipe.parse(written);
  } catch (const Error& e) {
    Fail(e.kind(), "{}; run the compress command of this part again", e.what());
  } catch (const std::exception&) {
    Fail(ErrorKind::kUserInput,
         "{}: not a part (compress --shard i/N makes one)", parts.front());
  }
  const OpenedModel model = OpenModel(folder);
  CompressOptions options = OptionsOf(arguments, model, /*place=*/0);
  options.stop = StopOnSignals();
  const CompressPlan plan = PlanOfPart(model, options, parts.front());
  if (!common.json) {
    PrintPlan(plan);
  }
  CompressReport report;
  {
    ProgressBar bar(common);
    report =
        Merge(model, plan, {parts.begin(), parts.end()}, out, bar.AsFunction());
  }
  const double seconds = MonotonicSeconds() - start;
  if (common.json) {
    PrintJson(ReportJson(plan, report, seconds));
  } else {
    PrintReport(report, out, seconds);
  }
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

void AddMerge(CLI::App& app, CommonOptions* common) {
  auto* command = app.add_subcommand(
      "merge", "make one model of the parts that compress --shard wrote");
  auto model = std::make_shared<std::string>();
  auto out = std::make_shared<std::string>();
  auto parts = std::make_shared<std::vector<std::string>>();
  ExpectModel(command->add_option("model", *model, "folder of the original"));
  command->add_option("out", *out, "new folder for the result")->required();
  command->add_option("parts", *parts, "the OUT of each share")->required();
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([=] { RunMerge(*model, *out, *parts, *common); });
}

}  // namespace mobe
