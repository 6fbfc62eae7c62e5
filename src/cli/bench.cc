// mobe bench MODEL
#include "speed/bench.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/progress_bar.h"
#include "cli/run_options.h"
#include "cli/terminal.h"
#include "speed/bench_table.h"

namespace mobe {
namespace {

// Of tokens: beyond any context.
constexpr int64_t kMostTokens = 10'000'000;

struct BenchArguments {
  std::string model;
  std::string output = "markdown";
  BenchOptions bench;
  std::vector<int64_t> threads = {0};
  RunOptionLists load;
};

Json PeaksJson(const BenchResult& result) {
  Json json = {{"threads", result.threads},
               {"bytes_per_second", result.peaks.bytes_per_second}};
  for (const ProductPeak& peak : result.peaks.products) {
    json["operations_per_second"][peak.name] = peak.operations_per_second;
  }
  return json;
}

std::string PeaksText(const BenchResult& result) {
  std::string text =
      fmt::format("peaks of {} threads: reading {:.1f} GB/s", result.threads,
                  result.peaks.bytes_per_second / 1e9);
  for (const ProductPeak& peak : result.peaks.products) {
    text += fmt::format(", {} {:.0f} GFLOP/s", peak.name,
                        peak.operations_per_second / 1e9);
  }
  return text;
}

// The first result of each number of threads.
std::vector<const BenchResult*> ByThreads(
    const std::vector<BenchResult>& results) {
  std::vector<const BenchResult*> first;
  std::set<int> seen;
  for (const BenchResult& result : results) {
    if (seen.insert(result.threads).second) first.push_back(&result);
  }
  return first;
}

void Run(const BenchArguments& arguments, const CommonOptions& common) {
  BenchOptions options = arguments.bench;
  options.loads = arguments.load.All();
  options.lists.loads = options.loads.size();
  options.lists.threads.assign(arguments.threads.begin(),
                               arguments.threads.end());
  std::vector<BenchResult> results;
  {
    ProgressBar bar(common);
    results = RunBench(arguments.model, options, bar.AsFunction());
  }
  if (common.json || arguments.output == "json") {
    Json json = {{"model", arguments.model},
                 {"repeat", options.repeat},
                 {"results", BenchJson(results)}};
    for (const BenchResult* result : ByThreads(results)) {
      json["peaks"].push_back(PeaksJson(*result));
    }
    return PrintJson(json);
  }
  if (arguments.output == "csv") return PrintText(BenchCsv(results));
  const size_t columns =
      CanDraw(STDOUT_FILENO)
          ? static_cast<size_t>(ColumnsOfTerminal(STDOUT_FILENO))
          : SIZE_MAX;
  PrintText(BenchMarkdown(results, columns) + "\n");
  for (const BenchResult* result : ByThreads(results)) {
    Print("{}\n", PeaksText(*result));
  }
}

// An option of whole numbers, separated by commas.
void AddNumbers(CLI::App* command, const std::string& names, int64_t least,
                int64_t most, const std::string& help,
                std::vector<int64_t>* values) {
  CLI::Option* option = command->add_option_function<std::string>(
      names,
      [=](const std::string& text) {
        *values = ParseNumbers("", text, least, most);
      },
      help);
  ExpectForm(option, [=](const std::string& text) {
    ParseNumbers(option->get_name(), text, least, most);
  });
}

void AddLists(CLI::App* command, BenchArguments* arguments) {
  BenchLists& lists = arguments->bench.lists;
  lists.prompts = {512};
  lists.generates = {128};
  lists.depths = {0};
  lists.batches = {1};
  AddNumbers(command, "-p,--prompt", 0, kMostTokens,
             "tokens of a prompt (default: 512); 0: none", &lists.prompts);
  AddNumbers(command, "-n,--generate", 0, kMostTokens,
             "tokens of a text (default: 128); 0: none", &lists.generates);
  CLI::Option* mixed = command->add_option_function<std::string>(
      "--mixed",
      [&lists](const std::string& text) {
        lists.mixed = ParseMixed("", text, kMostTokens);
      },
      "tokens of a prompt and of the text behind it, timed together, as "
      "512+128");
  ExpectForm(mixed, [](const std::string& text) {
    ParseMixed("--mixed", text, kMostTokens);
  });
  AddNumbers(command, "--depth", 0, kMostTokens,
             "tokens in the cache before (default: 0)", &lists.depths);
  AddNumbers(command, "--batch", 1, 512, "sequences together (default: 1)",
             &lists.batches);
  AddNumbers(command, "--threads", 1, 512,
             "threads to use (default: one for each core that this process may "
             "use)",
             &arguments->threads);
}

}  // namespace

void AddBench(CLI::App& app, CommonOptions* common) {
  CLI::App* command = app.add_subcommand(
      "bench",
      "time prompts and generation; options with several values, separated by "
      "commas, run in all combinations");
  auto options = std::make_shared<BenchArguments>();
  ExpectModel(command->add_option("model", options->model, "model folder"));
  AddLists(command, options.get());
  AddRunOptionLists(command, &options->load);
  ExpectWhole(command
                  ->add_option("-r,--repeat", options->bench.repeat,
                               "rounds of all cases in turn")
                  ->capture_default_str(),
              1, 1000);
  ExpectOneOf(command->add_option("--output", options->output,
                                  "markdown (default), csv or json"),
              {"markdown", "csv", "json"});
  // Not AddCommonOptions: --threads is a list.
  command->add_flag("--json", common->json, "the same as --output json");
  command->add_flag("--quiet", common->quiet, "no progress on stderr");
  ExpectValues(command);
  command->callback([options, common] { Run(*options, *common); });
}

}  // namespace mobe
