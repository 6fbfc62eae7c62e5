// mobe compress MODEL OUT, and mobe merge MODEL OUT PART...
#include "mobe/compress.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <map>

#include "base/error.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/stop_signals.h"
#include "mobe/crew.h"
#include "mobe/estimate.h"
#include "mobe/journal.h"

namespace mobe {
namespace {

struct Arguments {
  std::string model;
  std::string out;
  int64_t bases = 0;
  double ratio = 0;
  std::string activation = "silu";
  std::string layers;
  std::string solver = "fast";
  std::string budget;
  std::string passes;
  std::string time;
  double shard_gigabytes = 5;
  std::string start;
  std::string trace;
  std::string shard;
  uint64_t seed = 0;
  bool dry_run = false;
};

// "3" or "0-5", both inclusive.
void ParseLayers(const std::string& text, CompressOptions* options) {
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
  options->first_layer = number(view.substr(0, dash));
  options->last_layer = dash == std::string::npos
                            ? options->first_layer
                            : number(view.substr(dash + 1));
  if (options->first_layer > options->last_layer) {
    Fail(ErrorKind::kUserInput, "--layers {}: the range is empty", text);
  }
}

CompressOptions OptionsOf(const Arguments& arguments) {
  CompressOptions options;
  if (arguments.bases != 0) options.num_bases = arguments.bases;
  if (arguments.ratio != 0) options.ratio = arguments.ratio;
  options.activation = *ActivationFromName(arguments.activation);
  options.solver = *SolverFromName(arguments.solver);
  options.seed = arguments.seed;
  options.start = arguments.start;
  if (!arguments.layers.empty()) ParseLayers(arguments.layers, &options);
  if (!arguments.budget.empty()) options.budget = ParseBudget(arguments.budget);
  if (!arguments.passes.empty()) options.budget = ParsePasses(arguments.passes);
  if (!arguments.time.empty()) options.budget = ParseTime(arguments.time);
  if (!arguments.shard.empty()) options.share = ParseShare(arguments.shard);
  options.shard_bytes = static_cast<int64_t>(arguments.shard_gigabytes * 1e9);
  return options;
}

Json PlanJson(const CompressPlan& plan) {
  return {{"num_bases", plan.format.num_bases},
          {"rank", plan.format.rank},
          {"activation", ActivationName(plan.format.activation)},
          {"layers", plan.format.layers},
          {"ratio_experts", plan.ratios.experts},
          {"ratio_model", plan.ratios.model},
          {"bytes_in", plan.bytes_in},
          {"bytes_out", plan.bytes_out}};
}

void PrintPlan(const CompressPlan& plan) {
  fmt::print(
      "{} layers of experts: {} bases of rank {}, {}\n"
      "expert weights kept: {:.1f}%   whole model: {:.1f}%\n"
      "bytes: {} in, {} out in {} file{}\n"
      "memory of the fit: {}\n",
      plan.format.layers.size(), plan.format.num_bases, plan.format.rank,
      ActivationName(plan.format.activation), 100 * plan.ratios.experts,
      100 * plan.ratios.model, FormatBytes(static_cast<double>(plan.bytes_in)),
      FormatBytes(static_cast<double>(plan.bytes_out)), plan.shards.size(),
      plan.shards.size() == 1 ? "" : "s",
      FormatBytes(static_cast<double>(plan.fit_bytes)));
}

Json EstimateJson(const Estimate& estimate) {
  return {{"seconds_expected", estimate.seconds},
          {"passes", estimate.passes},
          {"operations", estimate.operations},
          {"peak_memory_bytes", estimate.peak_memory_bytes},
          {"disk_bytes", estimate.disk_bytes},
          {"disk_free_bytes", estimate.free_bytes}};
}

void PrintEstimate(const CompressPlan& plan, const Estimate& estimate) {
  const auto bytes = [](int64_t count) {
    return FormatBytes(static_cast<double>(count));
  };
  const FitCost& probe = estimate.speed.first;
  const FactorJob& first = plan.jobs.front();
  fmt::print(
      "peak memory: {} (fit {}, mapped pages {}, program {})\n"
      "disk: {} at most, {} free\n"
      "operations: {:.3g} in {} passes of each matrix\n"
      "time: {} ({} passes of {} experts of layer {} {}, {:.2g} s, measured)\n",
      bytes(estimate.peak_memory_bytes), bytes(plan.fit_bytes),
      bytes(estimate.mapped_bytes), bytes(estimate.process_bytes),
      bytes(estimate.disk_bytes), bytes(estimate.free_bytes),
      estimate.operations, estimate.passes, FormatDuration(estimate.seconds),
      probe.passes, probe.experts, first.layer, first.kind->name,
      probe.seconds);
}

Json ReportJson(const CompressPlan& plan, const CompressReport& report,
                double seconds) {
  Json json = PlanJson(plan);
  json["mse_scaled_mean"] = report.mse_scaled_mean;
  json["seconds"] = seconds;
  json["peak_rss_bytes"] = PeakResidentBytes();
  json["passes"] = report.passes;
  json["resumed"] = report.resumed;
  json["matrices"] = Json::array();
  for (const MatrixReport& matrix : report.matrices) {
    json["matrices"].push_back({{"layer", matrix.layer},
                                {"matrix", matrix.kind},
                                {"mse_scaled", matrix.error.scaled_mse},
                                {"relative", matrix.error.relative}});
  }
  return json;
}

void PrintReport(const CompressReport& report, double seconds) {
  if (report.resumed > 0) {
    fmt::print("continued: {} matrices were finished before\n", report.resumed);
  }
  fmt::print("mean scaled MSE {:.5f} in {}, peak memory {}\n",
             report.mse_scaled_mean, FormatDuration(seconds),
             FormatBytes(static_cast<double>(PeakResidentBytes())));
}

// The process alone, or rank 0 of several.
void RunFirst(const Arguments& arguments,
              const std::vector<std::string>& recipe,
              const CommonOptions& common, Ranks* ranks) {
  const double start = MonotonicSeconds();
  const OpenedModel model = OpenModel(arguments.model);
  CompressOptions options = OptionsOf(arguments);
  options.arguments = recipe;
  if (!arguments.dry_run) options.stop = StopOnSignals();
  const CompressPlan plan = PlanCompression(model, options);
  if (!common.json) {
    PrintPlan(plan);
    if (ranks != nullptr) {
      fmt::print("{} ranks, {} threads in this one\n", ranks->size(),
                 Threads());
    }
    std::fflush(stdout);  // before the progress on stderr
  }
  if (arguments.dry_run) {
    const Estimate estimate = EstimateCompression(
        model, plan, arguments.out, ranks != nullptr ? ranks->size() : 1);
    if (!estimate.warning.empty()) {
      fmt::print(stderr, "mobe: warning: {}\n", estimate.warning);
    }
    if (common.json) {
      Json json = PlanJson(plan);
      json.update(EstimateJson(estimate));
      PrintJson(json);
    } else {
      PrintEstimate(plan, estimate);
    }
    return;
  }
  std::ofstream trace_file;
  TraceFn trace;
  if (!arguments.trace.empty()) {
    trace_file.open(arguments.trace);
    if (!trace_file) {
      Fail(ErrorKind::kUserInput, "--trace {}: cannot create the file",
           arguments.trace);
    }
    trace_file << "layer,matrix,pass,seconds,mse_scaled\n";
    trace = [&](int64_t layer, const MatrixKind& kind, int64_t pass,
                double mse) {
      trace_file << fmt::format("{},{},{},{:.4f},{:.9g}\n", layer, kind.name,
                                pass, MonotonicSeconds() - start, mse);
    };
  }
  CompressReport report;
  {
    ProgressBar bar(stderr, common.quiet);
    report =
        Compress(model, plan, arguments.out, bar.AsFunction(), trace, ranks);
  }
  const double seconds = MonotonicSeconds() - start;
  if (common.json) {
    PrintJson(ReportJson(plan, report, seconds));
    return;
  }
  PrintReport(report, seconds);
  if (plan.options.share) {
    fmt::print(
        "{} of {} matrices are in this part; next: mobe merge {} OUT "
        "PART...\n",
        report.matrices.size(), plan.jobs.size(), arguments.model);
  }
}

void Run(const Arguments& arguments, const std::vector<std::string>& recipe,
         const CommonOptions& common) {
  const std::unique_ptr<Ranks> ranks = Ranks::Join();
  if (ranks == nullptr) {
    RunFirst(arguments, recipe, common, nullptr);
    return;
  }
  if (common.threads == 0) SetThreads(ranks->threads());
  if (ranks->rank() != 0) {
    if (arguments.dry_run) return;  // nothing to do for it
    TellRank0(ranks.get(), [&] {
      const OpenedModel model = OpenModel(arguments.model);
      CompressOptions options = OptionsOf(arguments);
      options.stop = StopOnSignals();
      const CompressPlan plan = PlanCompression(model, options);
      HelpCompress(model, plan, arguments.out, ranks.get());
    });
    return;
  }
  if (!arguments.shard.empty() || !arguments.trace.empty()) {
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
    for (const std::string& value : option->results()) written.push_back(value);
  }
  return written;
}

// The options that make the model what it is: all that a merge has to know.
// What is not one of them is added in AddCompress.
void AddRecipe(CLI::App* recipe, Arguments* arguments) {
  auto* bases =
      recipe
          ->add_option("--bases", arguments->bases,
                       "number of bases of each layer and matrix kind")
          ->check(CLI::PositiveNumber);
  recipe
      ->add_option("--ratio", arguments->ratio,
                   "share of the expert weights to keep (default 0.75)")
      ->check(CLI::Range(0.0, 1.0))
      ->excludes(bases);
  recipe
      ->add_option("--activation", arguments->activation,
                   "function between bases and A")
      ->check(CLI::IsMember({"silu", "tanh", "identity"}))
      ->capture_default_str();
  recipe->add_option("--layers", arguments->layers,
                     "layers to factor, as 3 or 0-5 (default: all)");
  recipe
      ->add_option("--solver", arguments->solver,
                   "fast, or the published algorithm")
      ->check(CLI::IsMember({"fast", "reference"}))
      ->capture_default_str();
  auto* passes = recipe->add_option("--passes", arguments->passes,
                                    "passes of each matrix (default: 500)");
  auto* time = recipe
                   ->add_option("--time", arguments->time,
                                "time of the whole job (90s, 10m, 2h)")
                   ->excludes(passes);
  recipe
      ->add_option("--budget", arguments->budget,
                   "either: passes (500) or a time (2h)")
      ->excludes(passes)
      ->excludes(time);
  recipe->add_option("--seed", arguments->seed, "seed of the start")
      ->capture_default_str();
  recipe
      ->add_option("--shard-gb", arguments->shard_gigabytes,
                   "largest size of an output file in GB")
      ->check(CLI::Range(0.000001, 1e6))
      ->capture_default_str();
  recipe->add_option("--start", arguments->start,
                     "safetensors file of starts for --solver reference");
}

void RunMerge(const std::string& folder, const std::string& out,
              const std::vector<std::string>& parts,
              const CommonOptions& common) {
  const double start = MonotonicSeconds();
  // The recipe is what the first part was written with; Merge compares what it
  // comes to with all of them.
  Arguments arguments;
  CLI::App recipe;
  AddRecipe(&recipe, &arguments);
  try {
    std::vector<std::string> written = ReadNote(parts.front(), "arguments");
    std::ranges::reverse(written);  // as CLI11 wants them
    recipe.parse(written);
  } catch (const std::exception&) {
    Fail(ErrorKind::kUserInput,
         "{}: not a part (compress --shard i/N makes one)", parts.front());
  }
  const OpenedModel model = OpenModel(folder);
  CompressOptions options = OptionsOf(arguments);
  options.stop = StopOnSignals();
  const CompressPlan plan = PlanCompression(model, options);
  if (!common.json) {
    PrintPlan(plan);
    std::fflush(stdout);  // before the progress on stderr
  }
  CompressReport report;
  {
    ProgressBar bar(stderr, common.quiet);
    report =
        Merge(model, plan, {parts.begin(), parts.end()}, out, bar.AsFunction());
  }
  const double seconds = MonotonicSeconds() - start;
  if (common.json) {
    PrintJson(ReportJson(plan, report, seconds));
  } else {
    PrintReport(report, seconds);
  }
}

}  // namespace

void AddCompress(CLI::App& app, CommonOptions* common) {
  auto* command = app.add_subcommand(
      "compress", "factor a model's experts; continues where it was stopped");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("model", arguments->model, "folder of the original")
      ->required();
  command->add_option("out", arguments->out, "new folder for the result")
      ->required();
  CLI::App* recipe = command->add_option_group("recipe");
  AddRecipe(recipe, arguments.get());
  command->add_option("--shard", arguments->shard,
                      "fit only share i of N (0/3, 1/3, 2/3), each with an OUT "
                      "of its own; then mobe merge");
  command->add_option("--trace", arguments->trace,
                      "CSV file for the error of each pass");
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
  command->add_option("model", *model, "folder of the original")->required();
  command->add_option("out", *out, "new folder for the result")->required();
  command->add_option("parts", *parts, "the OUT of each share")->required();
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([=] { RunMerge(*model, *out, *parts, *common); });
}

}  // namespace mobe
