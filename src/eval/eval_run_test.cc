#include "eval/eval_run.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/testing.h"
#include "eval/eval_table.h"
#include "eval/perplexity.h"

namespace mobe {
namespace {

const std::filesystem::path kModelFolder = SourcePath("models/mini-qwen3-moe");
const std::filesystem::path kEvalData = SourcePath("tests/data/eval");

struct Bundled {
  Model model = Model::Load(kModelFolder, {});
  Tokenizer tokenizer = Tokenizer::Load(kModelFolder);
};

const Bundled& TheBundled() {
  static const Bundled bundled;
  return bundled;
}

TaskData DataOf(std::string_view name, const std::filesystem::path& file) {
  for (const EvalTask* task : EvalTasks()) {
    if (task->name == name) {
      return ReadTask(*task, {.data = file}, {.shots = 0});
    }
  }
  throw std::runtime_error(std::string(name));
}

std::vector<Score> RunIt(const TaskData& data, EvalLog* log,
                         const TaskRunOptions& options = {}) {
  return RunTask(TheBundled().model, TheBundled().tokenizer, data, "model",
                 options, log);
}

// Stopped after each piece of work, and gone on with.
void ExpectResumes(const TaskData& data, TaskRunOptions options = {}) {
  EvalLog memory("", {});
  const std::vector<Score> wanted = RunIt(data, &memory, options);
  const TempFolder folder;
  options.stop = [] { return true; };
  int64_t stops = 0;
  for (int64_t found = -1; found < std::ssize(wanted);) {
    EvalLog log(folder / "log", Json::object());
    EXPECT_GT(log.found(), found);
    found = log.found();
    try {
      EXPECT_EQ(RunIt(data, &log, options), wanted);
    } catch (const mobe::Stopped& e) {
      EXPECT_NE(std::string(e.what()).find(data.task->name), std::string::npos);
      ++stops;
    }
  }
  EXPECT_GT(stops, 1);
}

TEST(EvalRunTest, ChoicesGoOnWhereTheyStopped) {
  TaskData data = DataOf("arc_easy", kEvalData / "arc.jsonl");
  const std::vector<Question> six = data.questions;
  for (int i = 0; i < 4; ++i) {
    data.questions.insert(data.questions.end(), six.begin(), six.end());
  }
  ExpectResumes(data);
}

TEST(EvalRunTest, WritingGoesOnWhereItStopped) {
  ExpectResumes(DataOf("translation", kEvalData / "translation.json"));
}

TEST(EvalRunTest, TextsGoOnWhereTheyStopped) {
  ExpectResumes(DataOf("ptb", kModelFolder / "sample.txt"),
                {.limit = 40, .context = 48});
}

TEST(EvalRunTest, PerplexityIsThatOfTheCommand) {
  const TaskData data = DataOf("ptb_llama.cpp", kModelFolder / "sample.txt");
  EvalLog log("", {});
  const auto results = ResultsOf(data, RunIt(data, &log, {.context = 128}), {});
  EvalOptions options;
  options.protocol = Protocols()[1];
  options.context = 128;
  const PerplexityReport report =
      Perplexity(TheBundled().model,
                 {"", TheBundled().tokenizer.Encode(data.text), {}}, options);
  EXPECT_NEAR(results.front().value.value, report.perplexity.value, 1e-9);
}

TEST(EvalRunTest, SamplesSeveralTimes) {
  TaskData data = DataOf("gsm8k_mean4", kEvalData / "gsm8k.jsonl");
  data.questions.resize(2);
  EvalLog log("", {});
  const auto scores = RunIt(data, &log);
  EXPECT_EQ(scores.front()[0][1], 4);
}

TEST(EvalRunTest, PairsItemsWithTheOriginals) {
  TaskData data = DataOf("arc_easy", kEvalData / "arc.jsonl");
  const Sums hit = {1, 1};
  const Sums miss = {0, 1};
  const std::vector<Score> scores = {{hit, hit}, {hit, miss}, {miss, miss}};
  const std::vector<Score> base = {{hit, hit}, {miss, hit}, {miss, miss}};
  const auto results = ResultsOf(data, scores, base);
  ASSERT_EQ(results.size(), 2U);
  EXPECT_NEAR(results[0].value.value, 2.0 / 3, 1e-15);
  EXPECT_NEAR(results[0].value.error, std::sqrt(2.0 / 9 / 2), 1e-12);
  const double differences[] = {0, 1, 0};
  EXPECT_NEAR(results[0].difference->value, 1.0 / 3, 1e-15);
  EXPECT_NEAR(results[0].difference->error, Mean(differences).error, 1e-12);
  // As they are read again for the report.
  const auto read = ReadEvalJson({{"results", EvalJson(results)}}, "x");
  EXPECT_EQ(EvalTable(read), EvalTable(results));
  EXPECT_EQ(AlignedLeft(EvalTable(results)),
            "task      version      metric    shots  items  value            "
            "original         difference\n"
            "arc_easy  lm-eval 1.0  acc       0      3      0.6667 ± 0.3333  "
            "0.3333 ± 0.3333  +0.3333 ± 0.3333\n"
            "arc_easy  lm-eval 1.0  acc_norm  0      3      0.3333 ± 0.3333  "
            "0.6667 ± 0.3333  -0.3333 ± 0.3333\n");
  ExpectError(ErrorKind::kCorruptFile, "x: not what mobe eval --json prints",
              [] {
                ReadEvalJson({{"ppl", 1}}, "x");
              });
}

}  // namespace
}  // namespace mobe
