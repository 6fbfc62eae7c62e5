// mobe merge MODEL OUT PART...: the parts are of compress --shard.
#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/compress_arguments.h"
#include "cli/expect.h"
#include "cli/make_plan.h"
#include "cli/print_compressed.h"
#include "cli/print_plan.h"
#include "cli/progress_bar.h"
#include "cli/stop_signals.h"
#include "compress/journal.h"

namespace mobe {
namespace {

void Run(const std::string& folder, const std::string& out,
         const std::vector<std::string>& parts, const CommonOptions& common) {
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
  command->callback([=] { Run(*model, *out, *parts, *common); });
}

}  // namespace mobe
