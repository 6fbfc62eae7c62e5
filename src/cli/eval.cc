// mobe eval MODEL --tasks ...
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/progress_bar.h"
#include "cli/run_options.h"
#include "cli/stop_signals.h"
#include "eval/eval_log.h"
#include "eval/eval_run.h"
#include "eval/eval_table.h"
#include "eval/run_code.h"
#include "eval/task_data.h"
#include "eval/text.h"
#include "io/hub.h"
#include "mobe/model_identity.h"
#include "speed/bench.h"

namespace mobe {
namespace {

struct EvalArguments {
  std::string model;
  std::string base;
  std::vector<const EvalTask*> tasks;
  std::vector<std::string> data;      // [TASK=]FILE
  std::vector<std::string> examples;  // the same
  int64_t shots = -1;
  int64_t limit = INT64_MAX;
  int64_t context = 0;
  uint32_t seed = 1234;
  std::string log;
  bool allow_code = false;
  LoadOptions load = {.sequences = 8};
};

std::vector<std::string> TaskNames() {
  std::vector<std::string> names;
  for (const EvalTask* task : EvalTasks()) names.emplace_back(task->name);
  return names;
}

// Which task a file is for: TASK=FILE, or FILE for the only one.
struct FileOfTask {
  std::string task;
  std::string file;
};

FileOfTask ParseFile(const std::string& text, const EvalArguments& arguments) {
  const size_t equals = text.find('=');
  const std::string before = text.substr(0, std::min(equals, text.size()));
  if (equals != std::string::npos &&
      std::ranges::count(TaskNames(), before) > 0) {
    return {before, text.substr(equals + 1)};
  }
  if (arguments.tasks.size() == 1) {
    return {std::string(arguments.tasks.front()->name), text};
  }
  Fail(ErrorKind::kUserInput, "{}: for which of the tasks? Name it, as {}={}",
       text, arguments.tasks.front()->name, text);
}

// The file of a task in a list of them, or nothing.
std::string FileFor(const EvalTask& task, const std::vector<std::string>& files,
                    const EvalArguments& arguments) {
  std::string found;
  for (const std::string& text : files) {
    const FileOfTask of = ParseFile(text, arguments);
    if (of.task == task.name) found = of.file;
    if (std::ranges::count(arguments.tasks, of.task, [](const EvalTask* t) {
          return std::string(t->name);
        }) == 0) {
      Fail(ErrorKind::kUserInput, "{}: {} is not among --tasks", text, of.task);
    }
  }
  return found;
}

std::vector<TaskData> ReadTasks(const EvalArguments& arguments) {
  std::vector<TaskData> all;
  for (const EvalTask* task : arguments.tasks) {
    const TaskFiles files{FileFor(*task, arguments.data, arguments),
                          FileFor(*task, arguments.examples, arguments)};
    if (files.data.empty()) {
      Fail(ErrorKind::kUserInput,
           "{}: no data; name a file with --data {}=FILE (docs/eval.md tells "
           "which)",
           task->name, task->name);
    }
    all.push_back(ReadTask(*task, files,
                           {.shots = arguments.shots,
                            .limit = arguments.limit,
                            .seed = arguments.seed}));
  }
  return all;
}

void CheckCode(const EvalArguments& arguments) {
  for (const EvalTask* task : arguments.tasks) {
    if (!task->runs_code) continue;
    if (!arguments.allow_code) {
      Fail(ErrorKind::kUserInput,
           "{} runs Python that the model writes; say --allow-code where there "
           "is nothing to lose (docs/eval.md tells what keeps it in bounds)",
           task->name);
    }
    if (!CodeIsApart()) {
      PrintWarning(fmt::format(
          "{}: this system makes no namespaces for users, so what the model "
          "writes is not kept from the network, other processes and files",
          task->name));
    }
  }
}

// What the results depend on.
Json RunJson(const EvalArguments& arguments,
             const std::vector<TaskData>& tasks) {
  const LoadOptions& load = arguments.load;
  Json run = {
      {"model", ModelIdentity(arguments.model)},
      {"base",
       arguments.base.empty() ? Json() : Json(ModelIdentity(arguments.base))},
      {"dtype", load.precision ? PrecisionName(*load.precision) : "auto"},
      {"experts", ExpertModeName(load.experts)},
      {"built", load.built ? RowOf(*load.built).name : "stored"},
      {"cache", load.cache.name},
      {"context", arguments.context}};
  for (const TaskData& data : tasks) {
    run[fmt::format("task {}", data.task->name)] = {
        {"version", data.version}, {"form", data.form},
        {"data", data.data_hash},  {"examples", data.examples_hash},
        {"shots", data.shots},     {"seed", arguments.seed}};
  }
  return run;
}

// A model's scores in each task.
std::vector<std::vector<Score>> RunModel(const EvalArguments& arguments,
                                         const std::vector<TaskData>& tasks,
                                         const std::string& name,
                                         const CommonOptions& common,
                                         EvalLog* log) {
  const std::string& folder = name == "base" ? arguments.base : arguments.model;
  const Tokenizer tokenizer = Tokenizer::Load(folder);
  const Model model = Model::Load(folder, arguments.load);
  PrintMemory(model, common);
  double work = 0;
  for (const TaskData& data : tasks) work += WorkOf(data);
  std::vector<std::vector<Score>> scores;
  std::optional<ProgressBar> bar(common);
  double done = 0;
  for (const TaskData& data : tasks) {
    const double share = WorkOf(data) / work;
    TaskRunOptions options{.limit = arguments.limit,
                           .context = arguments.context,
                           .seed = arguments.seed,
                           .stop = StopOnSignals()};
    options.progress = [&](ProgressEvent event) {
      event.fraction = done + share * event.fraction;
      if (!arguments.base.empty()) event.what = name + ": " + event.what;
      bar->Show(event);
    };
    scores.push_back(RunTask(model, tokenizer, data, name, options, log));
    done += share;
  }
  bar.reset();
  const std::string whose = arguments.base.empty() ? "" : name;
  PrintSpeed(model.statistics(), common, whose);
  PrintExperts(model, model.statistics(), common, whose);
  return scores;
}

void Run(const EvalArguments& arguments, const CommonOptions& common) {
  CheckModelFolder(arguments.model);
  if (!arguments.base.empty()) CheckModelFolder(arguments.base);
  CheckCode(arguments);
  if (!arguments.base.empty()) {
    CheckSameTokenizer(arguments.base, arguments.model);
  }
  const std::vector<TaskData> tasks = ReadTasks(arguments);
  EvalLog log(arguments.log, RunJson(arguments, tasks));
  if (log.found() > 0 && !common.quiet) {
    PrintNote(
        fmt::format("{}: {} items done before", arguments.log, log.found()));
  }
  // One after the other, so that only one is in memory.
  const auto scores = RunModel(arguments, tasks, "model", common, &log);
  std::vector<std::vector<Score>> base(tasks.size());
  if (!arguments.base.empty()) {
    base = RunModel(arguments, tasks, "base", common, &log);
  }
  std::vector<EvalResult> results;
  for (size_t i = 0; i < tasks.size(); ++i) {
    std::ranges::move(ResultsOf(tasks[i], scores[i], base[i]),
                      std::back_inserter(results));
  }
  if (common.json) {
    PrintJson({{"results", EvalJson(results)}});
  } else {
    PrintText(AlignedLeft(EvalTable(results)));
  }
}

}  // namespace

void AddEval(CLI::App& app, CommonOptions* common) {
  CLI::App* command = app.add_subcommand(
      "eval", "measure a model on tasks, as lm-eval does, and on texts");
  auto arguments = std::make_shared<EvalArguments>();
  ExpectModel(command->add_option("model", arguments->model, "model folder"));
  const std::vector<std::string> names = TaskNames();
  const auto parse = [names](const std::string& text) {
    return ParseNames("--tasks", text, names);
  };
  ExpectForm(command
                 ->add_option_function<std::string>(
                     "--tasks",
                     [arguments, parse](const std::string& text) {
                       const auto all = EvalTasks();
                       for (const size_t i : parse(text)) {
                         arguments->tasks.push_back(all[i]);
                       }
                     },
                     fmt::format("tasks, with commas between: {}",
                                 fmt::join(names, ", ")))
                 ->required(),
             parse);
  command
      ->add_option("--data", arguments->data,
                   "a task's data, as TASK=FILE, once for each task; FILE "
                   "alone for the only one")
      ->allow_extra_args(false)
      ->required();
  command
      ->add_option("--shots-file", arguments->examples,
                   "where a task's examples are drawn from, likewise")
      ->allow_extra_args(false);
  ExpectWhole(command->add_option("--shots", arguments->shots,
                                  "examples before each question (default: "
                                  "lm-eval's, 5 for gsm8k and else 0)"),
              0, 1000);
  ExpectWhole(command->add_option("--limit", arguments->limit,
                                  "only so many items of each task, the first "
                                  "(default: all)"),
              1);
  ExpectModel(command->add_option(
      "--base", arguments->base,
      "folder of the original, to run, too, and compare with"));
  command->add_option("--log", arguments->log,
                      "file that gets a line of each item, and that the same "
                      "command goes on from");
  command->add_flag("--allow-code", arguments->allow_code,
                    "run the Python that the model writes in humaneval");
  ExpectWhole(command->add_option("--context", arguments->context,
                                  "tokens of a window of a text (default: the "
                                  "protocol's, 2048 or 512)"),
              3);
  ExpectWhole(command
                  ->add_option("--seed", arguments->seed,
                               "of examples and of sampled answers")
                  ->capture_default_str(),
              0, UINT32_MAX);
  AddRunOptions(command, &arguments->load);
  AddVerbose(command, common);
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([arguments, common] { Run(*arguments, *common); });
}

}  // namespace mobe
