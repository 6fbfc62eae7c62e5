// mobe perplexity MODEL FILE
#include "eval/perplexity.h"

#include <fmt/core.h>

#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/eval_options.h"
#include "cli/expect.h"
#include "cli/progress_bar.h"
#include "cli/run_options.h"
#include "io/hub.h"

namespace mobe {
namespace {

struct PerplexityArguments {
  std::string model;
  EvalCommandOptions eval;
};

void Run(const PerplexityArguments& options, const CommonOptions& common) {
  CheckModelFolder(options.model);
  const EvalText text =
      ReadEvalText(options.model, options.eval.file, options.eval.max_tokens);
  const Model model = Model::Load(options.model, options.eval.load);
  PrintMemory(model, common);
  PerplexityReport report;
  EvalOptions eval;
  {
    ProgressBar bar(common);
    eval = ToEvalOptions(options.eval, bar.AsFunction());
    report = Perplexity(model, text, eval);
  }
  if (common.json) {
    Json json = {{"ppl", report.perplexity.value},
                 {"ppl_stderr", report.perplexity.error}};
    AddRunKeys(eval, report.run, &json);
    PrintJson(json);
  } else {
    Print("perplexity {}\n{}\n", ToText(report.perplexity, 4),
          RunText(eval, report.run));
  }
  PrintExperts(model, model.statistics(), common);
}

}  // namespace

void AddPerplexity(CLI::App& app, CommonOptions* common) {
  CLI::App* command = app.add_subcommand(
      "perplexity", "measure how well a model predicts a text");
  auto options = std::make_shared<PerplexityArguments>();
  ExpectModel(command->add_option("model", options->model, "model folder"));
  AddEvalOptions(command, &options->eval, common);
  command->callback([options, common] { Run(*options, *common); });
}

}  // namespace mobe
