// mobe compare BASE OTHER FILE
#include "eval/compare.h"

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

struct CompareArguments {
  std::string base;
  std::string other;
  EvalCommandOptions eval;
};

void PrintReportAsJson(const CompareReport& report, const EvalOptions& eval) {
  Json json = {{"kld_mean", report.kld.value},
               {"kld_stderr", report.kld.error},
               {"kld_p50", report.kld_p50},
               {"kld_p90", report.kld_p90},
               {"kld_p95", report.kld_p95},
               {"kld_p99", report.kld_p99},
               {"kld_max", report.kld_max},
               {"top1_agreement", report.top1_agreement.value},
               {"top1_agreement_stderr", report.top1_agreement.error},
               {"ppl_base", report.perplexity_base.value},
               {"ppl_other", report.perplexity_other.value},
               {"ppl_ratio", report.perplexity_ratio.value},
               {"ppl_ratio_stderr", report.perplexity_ratio.error}};
  AddRunKeys(eval, report.run, &json);
  PrintJson(json);
}

void PrintReport(const CompareReport& report, const EvalOptions& eval) {
  Print("KL(base || other)  {} nats\n", ToText(report.kld, 6));
  Print("  p50 {:.6f}  p90 {:.6f}  p95 {:.6f}  p99 {:.6f}  max {:.6f}\n",
        report.kld_p50, report.kld_p90, report.kld_p95, report.kld_p99,
        report.kld_max);
  const Estimate& same = report.top1_agreement;
  Print("same top token     {}\n",
        ToText({100 * same.value, 100 * same.error}, 3, "%"));
  Print("perplexity         base {}, other {}\n",
        ToText(report.perplexity_base, 4), ToText(report.perplexity_other, 4));
  Print("  other / base     {}\n", ToText(report.perplexity_ratio, 5));
  Print("{}\n", RunText(eval, report.run));
}

void Run(const CompareArguments& options, const CommonOptions& common) {
  CheckModelFolder(options.base);
  CheckModelFolder(options.other);
  CheckSameTokenizer(options.base, options.other);
  const EvalText text =
      ReadEvalText(options.base, options.eval.file, options.eval.max_tokens);
  const Model base = Model::Load(options.base, options.eval.load);
  const Model other = Model::Load(options.other, options.eval.load);
  CompareReport report;
  EvalOptions eval;
  {
    ProgressBar bar(common);
    eval = ToEvalOptions(options.eval, bar.AsFunction());
    report = Compare(base, other, text, eval);
  }
  if (common.json) {
    PrintReportAsJson(report, eval);
  } else {
    PrintReport(report, eval);
  }
  PrintExperts(base, base.statistics(), common, "base");
  PrintExperts(other, other.statistics(), common, "other");
}

}  // namespace

void AddCompare(CLI::App& app, CommonOptions* common) {
  CLI::App* command = app.add_subcommand(
      "compare", "measure how far a model's predictions are from another's");
  auto options = std::make_shared<CompareArguments>();
  ExpectModel(command->add_option("base", options->base,
                                  "model folder, the reference"));
  ExpectModel(command->add_option("other", options->other,
                                  "model folder to compare with it"));
  AddEvalOptions(command, &options->eval, common);
  command->callback([options, common] { Run(*options, *common); });
}

}  // namespace mobe
