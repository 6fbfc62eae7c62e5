// mobe table MODEL... --text FILE
#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/eval_options.h"
#include "cli/expect.h"
#include "cli/progress_bar.h"
#include "eval/compare.h"
#include "eval/comparison.h"
#include "eval/perplexity.h"
#include "io/hub.h"
#include "speed/bench_model.h"

namespace mobe {
namespace {

struct TableArguments {
  std::vector<std::string> models;
  std::vector<std::string> texts;
  std::string form = TableForms().front().name;
  int64_t speed_tokens = 32;
  EvalCommandOptions eval;
};

// The last part of each path, or all of it where two would be the same.
std::vector<std::string> NamesOfPaths(const std::vector<std::string>& paths,
                                      bool extensions) {
  std::vector<std::string> names;
  names.reserve(paths.size());
  for (const std::string& text : paths) {
    std::filesystem::path path = std::filesystem::path(text).lexically_normal();
    if (!path.has_filename()) path = path.parent_path();
    names.push_back(extensions ? path.filename() : path.stem());
  }
  const std::set<std::string> different(names.begin(), names.end());
  return different.size() == names.size() ? names : paths;
}

// Tokens a second of one text, a token at a time, as `generate` runs it: the
// median of three, after one that is not timed.
double DecodeSpeed(const std::string& folder, const LoadOptions& asked,
                   int64_t tokens) {
  LoadOptions load = kTextOptions;
  load.experts = asked.experts;
  load.memory = asked.memory;
  BenchModel model(folder, load, tokens, 1);
  model.TouchWeights();
  model.Fill(0);
  const BenchCase decoding{.text = {0, tokens}};
  model.Run(decoding);
  std::vector<double> seconds;
  for (int i = 0; i < 3; ++i) seconds.push_back(model.Run(decoding));
  std::ranges::sort(seconds);
  return static_cast<double>(tokens) / std::max(seconds[1], 1e-9);
}

// Runs part after part under one bar.
class Parts {
 public:
  Parts(size_t count, const ProgressFn& progress)
      : count_(static_cast<double>(count)), progress_(progress) {}

  // Of the next part, `what`.
  ProgressFn Next(const std::string& what) {
    const double done = done_++;
    return [this, done, what](const ProgressEvent& event) {
      if (!event.warning.empty()) return progress_(event);
      ProgressEvent part = event;
      part.fraction = (done + event.fraction) / count_;
      part.what = what;
      progress_(part);
    };
  }

 private:
  double count_;
  double done_ = 0;
  const ProgressFn& progress_;
};

// A model on a text; the first alone, the others beside it.
OnText Measure(const Model& base, const Model* other, const EvalText& text,
               const EvalOptions& eval) {
  if (other == nullptr) {
    return {Perplexity(base, text, eval).perplexity, {}, {}};
  }
  const CompareReport report = Compare(base, *other, text, eval);
  return {report.perplexity_other, report.kld, report.top1_agreement};
}

Comparison MeasureAll(const TableArguments& arguments,
                      const ProgressFn& progress) {
  const std::string& first = arguments.models.front();
  for (const std::string& model : arguments.models) {
    CheckModelFolder(model);
    CheckSameTokenizer(first, model);
  }
  std::vector<EvalText> texts;
  for (const std::string& file : arguments.texts) {
    texts.push_back(ReadEvalText(first, file, arguments.eval.max_tokens));
  }
  Comparison comparison{NamesOfPaths(arguments.texts, false), {}};
  const auto names = NamesOfPaths(arguments.models, true);
  Parts parts(names.size() * (texts.size() + 1), progress);
  const Model base = Model::Load(first, arguments.eval.load);
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string& folder = arguments.models[i];
    ComparedModel& row = comparison.models.emplace_back();
    row.name = names[i];
    row.bytes = OpenModel(folder).checkpoint.bytes();
    std::optional<Model> other;
    if (i > 0) other.emplace(Model::Load(folder, arguments.eval.load));
    for (size_t j = 0; j < texts.size(); ++j) {
      const std::string what = names[i] + " on " + comparison.texts[j];
      row.texts.push_back(
          Measure(base, other ? &*other : nullptr, texts[j],
                  ToEvalOptions(arguments.eval, parts.Next(what))));
    }
    parts.Next("speed of " + names[i])({});
    if (arguments.speed_tokens == 0) continue;
    row.tokens_per_second =
        DecodeSpeed(folder, arguments.eval.load, arguments.speed_tokens);
  }
  return comparison;
}

void Run(const TableArguments& arguments, const CommonOptions& common) {
  Comparison comparison;
  {
    ProgressBar bar(common);
    comparison = MeasureAll(arguments, bar.AsFunction());
  }
  if (common.json) return PrintJson(ComparisonJson(comparison));
  const auto form =
      std::ranges::find(TableForms(), arguments.form, &TableForm::name);
  const Cells cells = ComparisonCells(
      comparison, form->for_programs ? CellsFor::kPrograms : CellsFor::kPeople);
  if (form == TableForms().begin()) return PrintTable(cells);
  PrintText(form->print(cells));
}

}  // namespace

void AddTable(CLI::App& app, CommonOptions* common) {
  CLI::App* command = app.add_subcommand(
      "table",
      "measure models on texts, in one table: bytes, KL divergence from the "
      "first, same top token, perplexity, speed");
  auto options = std::make_shared<TableArguments>();
  ExpectModel(command->add_option(
      "models", options->models,
      "model folders; the first is what the others are compared with"));
  command
      ->add_option("--text", options->texts,
                   "text to read, UTF-8; may be given several times")
      ->required()
      ->allow_extra_args(false);
  std::vector<std::string> forms;
  for (const TableForm& form : TableForms()) forms.emplace_back(form.name);
  ExpectOneOf(command->add_option("--output", options->form,
                                  "text, markdown, csv or latex"),
              forms)
      ->capture_default_str();
  ExpectWhole(command
                  ->add_option("--speed-tokens", options->speed_tokens,
                               "tokens that each model generates to be timed; "
                               "0: none is")
                  ->capture_default_str(),
              0, 100'000);
  AddWindowOptions(command, &options->eval, common);
  command->callback([options, common] { Run(*options, *common); });
}

}  // namespace mobe
