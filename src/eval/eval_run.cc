#include "eval/eval_run.h"

#include <fmt/core.h>

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "base/parallel.h"
#include "eval/log_likelihood.h"
#include "eval/run.h"
#include "model/generate.h"

namespace mobe {
namespace {

// Questions that are computed together, whatever of them is in the log: so many
// have about as many tokens as pass through a model at once, or are written at
// the same time.
constexpr size_t kChooseTogether = 16;
constexpr size_t kWriteTogether = 64;

// One run of RunTask.
struct TaskRunner {
  const Model& model;
  const Tokenizer& tokenizer;
  const TaskData& data;
  const std::string& model_name;
  const TaskRunOptions& options;
  EvalLog& log;

  bool IsDone(size_t item) const {
    return log.Find(model_name, *data.task, static_cast<int64_t>(item)) !=
           nullptr;
  }

  void Add(size_t item, Score score, const OrderedJson& seen) const {
    score.resize(data.task->metrics.size());
    log.Add(model_name, *data.task, static_cast<int64_t>(item), score, seen);
  }

  // What was added is kept now. Throws Stopped when it is to be.
  void Tell(double fraction, const std::string& how_far) const {
    log.Flush();
    options.progress(
        {fraction, fmt::format("{} {}", data.task->name, how_far)});
    if (options.stop == nullptr || !options.stop()) return;
    throw Stopped(fmt::format(
        "stopped in {} at {}{}", data.task->name, how_far,
        log.is_kept() ? "; the same command goes on from there"
                      : "; with --log FILE it could be gone on from"));
  }
  void TellItems(size_t done) const {
    const size_t all = data.questions.size();
    Tell(static_cast<double>(done) / static_cast<double>(all),
         fmt::format("{} of {}", done, all));
  }
};

// Calls `run` with the items of each piece of `together` that are not done.
void ForEachPiece(const TaskRunner& runner, size_t together,
                  const std::function<void(std::span<const size_t>)>& run) {
  const size_t all = runner.data.questions.size();
  for (size_t begin = 0; begin < all; begin += together) {
    const size_t end = std::min(begin + together, all);
    std::vector<size_t> items;
    for (size_t i = begin; i < end; ++i) {
      if (!runner.IsDone(i)) items.push_back(i);
    }
    if (items.empty()) continue;
    run(items);
    runner.TellItems(end);
  }
}

// ---- Choosing

void RunChoices(const TaskRunner& runner) {
  ForEachPiece(runner, kChooseTogether, [&](std::span<const size_t> items) {
    std::vector<Continuation> continuations;
    std::vector<size_t> ends;  // of each item's
    for (const size_t item : items) {
      const Question& question = runner.data.questions[item];
      for (const std::string& context : question.contexts) {
        for (const std::string& choice : question.choices) {
          continuations.push_back(
              EncodeContinuation(runner.tokenizer, context, choice));
        }
      }
      ends.push_back(continuations.size());
    }
    const std::vector<double> all = LogLikelihoods(runner.model, continuations);
    size_t begin = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      const Question& question = runner.data.questions[items[i]];
      const auto of_item = std::span(all).subspan(begin, ends[i] - begin);
      begin = ends[i];
      runner.Add(items[i], ScoreOfChoices(question, of_item),
                 {{"right", question.right},
                  {"log_likelihoods",
                   std::vector<double>(of_item.begin(), of_item.end())}});
    }
  });
}

// ---- Writing

// Of a prompt that leaves no room for the answer the beginning is left out, as
// lm-eval does it; where there would be nothing left, half of it is kept.
std::vector<int32_t> EncodeWithin(const TaskRunner& runner,
                                  const std::string& text) {
  std::vector<int32_t> ids = runner.tokenizer.EncodePrompt(text);
  const int64_t context = runner.model.config().max_positions;
  const int64_t room =
      std::max(context - runner.data.task->writing.max_tokens, context / 2);
  const int64_t over = std::ssize(ids) - room;
  if (over > 0) ids.erase(ids.begin(), ids.begin() + over);
  return ids;
}

void RunWriting(const TaskRunner& runner) {
  const EvalTask& task = *runner.data.task;
  GenerateOptions generate{.max_tokens = task.writing.max_tokens,
                           .stop = task.writing.stop,
                           .sampler = task.writing.sampler};
  const auto add = [&](size_t item, const std::vector<std::string>& texts) {
    runner.Add(item, task.score(runner.data.questions[item], texts),
               {{"texts", texts}});
  };
  ForEachPiece(runner, kWriteTogether, [&](std::span<const size_t> items) {
    std::vector<std::vector<int32_t>> prompts;
    for (const size_t item : items) {
      prompts.push_back(
          EncodeWithin(runner, runner.data.questions[item].contexts.front()));
    }
    std::vector<std::vector<std::string>> texts(items.size());
    for (int64_t time = 0; time < task.writing.times; ++time) {
      generate.sampler.seed = runner.options.seed + static_cast<uint64_t>(time);
      size_t next = 0;
      GenerateAll(runner.model, runner.tokenizer, prompts, generate,
                  [&](const Answer& answer) {
                    if (answer.error) throw Error(*answer.error);
                    const size_t i = next++;
                    texts[i].push_back(answer.text);
                    if (time + 1 < task.writing.times) return;
                    add(items[i], texts[i]);
                    runner.TellItems(items[i] + 1);
                  });
    }
  });
}

// ---- Reading a text

void RunReading(const TaskRunner& runner) {
  EvalText text{std::string(runner.data.task->name),
                runner.tokenizer.Encode(runner.data.text),
                {}};
  const std::vector<int32_t>& before = runner.tokenizer.affixes().before;
  if (!before.empty()) text.bos = before.front();
  EvalOptions eval;
  eval.protocol = *std::ranges::find(Protocols(), runner.data.task->protocol,
                                     &Protocol::name);
  eval.context = runner.options.context;
  while (eval.first_window < runner.options.limit &&
         runner.IsDone(static_cast<size_t>(eval.first_window))) {
    ++eval.first_window;
  }
  eval.windows = runner.options.limit - eval.first_window;

  eval.progress = [&](const ProgressEvent& event) {
    runner.Tell(event.fraction, event.what);
  };
  const Model* const models[] = {&runner.model};
  Sums sums = {0, 0};  // of the window so far: -log p of its tokens, how many
  RunWindows(
      models, text, eval, [](int64_t) {},
      [&](const Piece& piece) {
        std::vector<double> losses(piece.targets.size());
        ParallelFor(std::ssize(losses), [&](int64_t i) {
          const std::span<const float> row = piece.Row(0, i);
          const auto at = static_cast<size_t>(i);
          const auto target = static_cast<size_t>(piece.targets[at]);
          losses[at] =
              Finite(runner.model, SoftmaxOf(row).log_sum - row[target]);
        });
        for (const double loss : losses) sums[0] += loss;
        sums[1] += static_cast<double>(losses.size());
        if (!piece.ends_window) return;
        runner.Add(static_cast<size_t>(piece.window), {sums}, {});
        sums = {0, 0};
      });
}

// One from a log may be anything.
void CheckScore(const TaskData& data, const Score& score, int64_t item) {
  const auto& metrics = data.task->metrics;
  bool fits = score.size() == metrics.size();
  for (size_t i = 0; fits && i < metrics.size(); ++i) {
    fits = score[i].size() == metrics[i].terms;
  }
  if (fits) return;
  Fail(ErrorKind::kCorruptFile,
       "the log has other sums for item {} of {} than it should; remove its "
       "line, and it is run again",
       item, data.task->name);
}

}  // namespace

std::vector<Score> RunTask(const Model& model, const Tokenizer& tokenizer,
                           const TaskData& data, const std::string& model_name,
                           const TaskRunOptions& options, EvalLog* log) {
  const TaskRunner runner{model, tokenizer, data, model_name, options, *log};
  if (data.task->text != nullptr) {
    RunReading(runner);
  } else if (data.task->score != nullptr) {
    RunWriting(runner);
  } else {
    RunChoices(runner);
  }
  std::vector<Score> scores;
  const int64_t most =
      data.task->text != nullptr ? options.limit : std::ssize(data.questions);
  for (int64_t i = 0; i < most; ++i) {
    const Score* score = log->Find(model_name, *data.task, i);
    if (score == nullptr) break;  // behind the last window
    CheckScore(data, *score, i);
    scores.push_back(*score);
  }
  return scores;
}

double WorkOf(const TaskData& data) {
  // Characters that are read; a token that is written takes longer than one.
  constexpr double kWritten = 20;
  auto work = static_cast<double>(data.text.size());
  for (const Question& question : data.questions) {
    for (const auto* texts : {&question.contexts, &question.choices}) {
      for (const std::string& text : *texts) {
        work += static_cast<double>(text.size());
      }
    }
    work += kWritten * static_cast<double>(data.task->writing.max_tokens *
                                           data.task->writing.times);
  }
  return work;
}

std::vector<EvalResult> ResultsOf(const TaskData& data,
                                  std::span<const Score> scores,
                                  std::span<const Score> base) {
  std::vector<EvalResult> results;
  for (size_t m = 0; m < data.task->metrics.size(); ++m) {
    const EvalMetric& metric = data.task->metrics[m];
    const auto of_metric = [m](std::span<const Score> all) {
      std::vector<Sums> sums;
      for (const Score& score : all) sums.push_back(score[m]);
      return sums;
    };
    const std::vector<Sums> sums = of_metric(scores);
    EvalResult& result = results.emplace_back(
        EvalResult{.task = std::string(data.task->name),
                   .version = data.version,
                   .form = data.form,
                   .metric = std::string(metric.name),
                   .shots = data.shots,
                   .items = std::ssize(scores),
                   .value = EstimateOf(sums, metric.number)});
    if (base.empty()) continue;
    const std::vector<Sums> base_sums = of_metric(base);
    result.base = EstimateOf(base_sums, metric.number);
    result.difference = DifferenceOf(sums, base_sums, metric.number);
  }
  return results;
}

}  // namespace mobe
