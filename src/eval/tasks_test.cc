#include <gtest/gtest.h>

#include "base/testing.h"
#include "eval/task.h"
#include "eval/task_data.h"

namespace mobe {
namespace {

const EvalTask& TaskOf(std::string_view name) {
  for (const EvalTask* task : EvalTasks()) {
    if (task->name == name) return *task;
  }
  throw std::runtime_error(std::string(name));
}

TaskData ReadOf(std::string_view task, const std::string& data,
                const TaskOptions& options = {.shots = 0}) {
  const TempFolder folder;
  WriteText(folder / "data", data);
  return ReadTask(TaskOf(task), {.data = folder / "data"}, options);
}

Question Only(std::string_view task, const std::string& data) {
  const TaskData read = ReadOf(task, data);
  EXPECT_EQ(read.questions.size(), 1U);
  return read.questions.front();
}

using Texts = std::vector<std::string>;

TEST(TasksTest, ArcInItsForms) {
  for (const char* entry :
       {R"({"question": "Why?", "choices": {"text": ["a", "b"], "label":)"
        R"(["A", "B"]}, "answerKey": "B"})",
        R"({"question": {"stem": "Why?", "choices": [{"text": "a", "label":)"
        R"("1"}, {"text": "b", "label": "2"}]}, "answerKey": "2"})",
        R"([{"instruction": "Please choose the correct answer to the )"
        R"(question: Why?\n\nAnswer1: a Answer2: b\n\nAnswer format: )"
        R"(answer1/answer2", "input": "", "output": "x", "answer": )"
        R"("answer2"}])"}) {
    const Question question = Only("arc_easy", entry);
    EXPECT_EQ(question.contexts, Texts{"Question: Why?\nAnswer:"});
    EXPECT_EQ(question.choices, (Texts{" a", " b"}));
    EXPECT_EQ(question.right, 1U);
  }
}

TEST(TasksTest, BoolQ) {
  const Question question =
      Only("boolq", R"({"question": "is it", "passage": "P.", "label": 1})");
  EXPECT_EQ(question.contexts, Texts{"P.\nQuestion: is it?\nAnswer:"});
  EXPECT_EQ(question.choices, (Texts{" no", " yes"}));
  EXPECT_EQ(question.right, 1U);
  const Question adapted =
      Only("boolq",
           R"({"instruction": "Please answer the following question with true )"
           R"(or false, question: is it?\n\nAnswer format: true/false", )"
           R"("output": "", "answer": "false"})");
  EXPECT_EQ(adapted.contexts, Texts{"Question: is it?\nAnswer:"});
  EXPECT_EQ(adapted.right, 0U);
}

TEST(TasksTest, HellaSwagIsCleanedAsLmEvalDoes) {
  const Question question = Only(
      "hellaswag",
      R"({"activity_label": "Swim", "ctx_a": "[header] How [title] Go. ", )"
      R"("ctx_b": "the Man", "endings": ["x  y", "z [step] w"], "label": "1"})");
  EXPECT_EQ(question.contexts, Texts{"Swim: How. Go. The man"});
  EXPECT_EQ(question.choices, (Texts{" x y", " z w"}));
  EXPECT_EQ(question.right, 1U);
  const Question adapted = Only(
      "hellaswag",
      R"({"instruction": "Please choose the correct ending to complete the )"
      R"(given sentence: Swim: He dives. the Man\n\nEnding1: x Ending2: y\n\n)"
      R"(Answer format: ending1/ending2", "output": "", "answer": "ending1"})");
  EXPECT_EQ(adapted.contexts, Texts{"Swim: He dives. The man"});
}

TEST(TasksTest, PiqaKeepsSpacesOfSolutions) {
  const Question question = Only(
      "piqa",
      R"({"instruction": "Please choose the correct solution to the question: )"
      R"(shelf\n\nSolution1: nail it \n\nSolution2: glue it\n\nAnswer format: )"
      R"(solution1/solution2", "output": "", "answer": "solution1"})");
  EXPECT_EQ(question.contexts, Texts{"Question: shelf\nAnswer:"});
  EXPECT_EQ(question.choices, (Texts{" nail it ", " glue it"}));
}

TEST(TasksTest, SiqaCountsFromOne) {
  const Question question =
      Only("siqa",
           R"({"context": "C.", "question": "Q?", "answerA": "a", "answerB":)"
           R"("b", "answerC": "c", "label": "3"})");
  EXPECT_EQ(question.contexts, Texts{"Q: C. Q?\nA:"});
  EXPECT_EQ(question.right, 2U);
}

TEST(TasksTest, WinoGrandeHasAContextForEachAnswer) {
  const Question question =
      Only("winogrande",
           R"({"sentence": "Ann saw _ fall down.", "option1": "Bo", "option2":)"
           R"("Cy", "answer": "2"})");
  EXPECT_EQ(question.contexts, (Texts{"Ann saw Bo", "Ann saw Cy"}));
  EXPECT_EQ(question.choices, Texts{" fall down."});
  EXPECT_EQ(question.right, 1U);
}

TEST(TasksTest, IntentsAreAllThatTheFileNames) {
  const TaskData data = ReadTask(
      TaskOf("intent"), {.data = SourcePath("tests/data/eval/clinc.json")},
      {.shots = 0});
  ASSERT_EQ(data.questions.size(), 3U);
  EXPECT_EQ(data.questions[1].choices,
            (Texts{" balance", " set alarm", " weather"}));
  EXPECT_EQ(data.questions[1].right, 1U);
}

TEST(TasksTest, TranslationGoesFromTheFirstLanguage) {
  const Question question =
      Only("translation", R"({"translation": {"zh": "好。", "en": "Good."}})");
  EXPECT_EQ(question.contexts, Texts{"Chinese phrase: 好。\nEnglish phrase:"});
  const Texts right = {" Good."};
  const Score score = TaskOf("translation").score(question, right);
  EXPECT_EQ(score.front()[2], 2);  // both words
}

TEST(TasksTest, AccNormCountsCharacters) {
  const Question question{
      .contexts = {"?"}, .choices = {" ab", " üü", " abcd"}, .right = 1};
  const double likelihoods[] = {-2, -2.5, -4.4};
  // By length: -1, -1.25, -1.1; by bytes the second would be the best.
  const Score score = ScoreOfChoices(question, likelihoods);
  EXPECT_EQ(score[0], (Sums{0, 1}));
  EXPECT_EQ(score[1], (Sums{0, 1}));
  const double equal[] = {-3, -1, -2};
  EXPECT_EQ(ScoreOfChoices(question, equal)[1], (Sums{1, 1}));
}

struct Gsm8kCase {
  const char* text;
  double strict;
  double flexible;
};

TEST(TasksTest, Gsm8kFiltersAreLmEvals) {
  const Question question{.contexts = {"?"}, .answer = "So.\n#### 1,234"};
  const Gsm8kCase cases[] = {
      {"It is\n#### 1234", 1, 1},
      {"#### 1,234.", 1, 1},
      {"#### $1234", 0, 1},         // strict wants a digit
      {"#### 7\n#### 1234", 0, 1},  // the first; the last
      {"The answer is $1,234.", 0, 1},
      {"1234 of 5", 0, 0},
      {"-1234", 0, 0},
      {"nothing", 0, 0},
  };
  for (const Gsm8kCase& c : cases) {
    const Texts texts = {c.text};
    const Score score = TaskOf("gsm8k").score(question, texts);
    EXPECT_EQ(score[0], (Sums{c.strict, 1})) << c.text;
    EXPECT_EQ(score[1], (Sums{c.flexible, 1})) << c.text;
  }
}

TEST(TasksTest, HumanEvalRunsTheTests) {
  const TaskData data = ReadTask(
      TaskOf("humaneval"),
      {.data = SourcePath("tests/data/eval/humaneval.jsonl")}, {.shots = 0});
  ASSERT_EQ(data.questions.size(), 2U);
  const Question& question = data.questions.front();
  const Texts texts = {question.answer, "    return a - b\n", "    exit(0)\n"};
  EXPECT_EQ(data.task->score(question, texts), (Score{{1, 3}}));
}

// lm_eval.api.samplers.ContextSampler with seed 1234 over the seven entries of
// this file draws these five for the first question and for the second.
TEST(TasksTest, ExamplesAreDrawnAsLmEvalDoes) {
  const auto file = SourcePath("tests/data/eval/gsm8k.jsonl");
  const TaskData data =
      ReadTask(TaskOf("gsm8k"), {.data = file, .examples = file}, {});
  ASSERT_EQ(data.shots, 5);
  const std::string& context = data.questions.front().contexts.front();
  EXPECT_TRUE(context.starts_with(
      "Question: A rope of 18 m is cut into 3 equal parts. How long is "
      "one?\nAnswer: 18/3=<<18/3=6>>6 m.\n#### 6\n\nQuestion: Two pens cost "
      "$3. What do 1,000 pens cost?"))
      << context;
  EXPECT_TRUE(context.ends_with(
      "\n\nQuestion: A box holds 6 eggs. How many eggs are in 4 "
      "boxes?\nAnswer:"));
  size_t answers = 0;
  for (size_t at = 0;
       (at = context.find("#### ", at)) != std::string_view::npos; ++at) {
    ++answers;
  }
  EXPECT_EQ(answers, 5U);
}

TEST(TasksTest, PerplexityTakesTheTextsOfOthers) {
  const std::string lines = " \n = A = \n \n Text . \n";
  EXPECT_EQ(ReadOf("wikitext2", lines).text, "\n\n = A = \n\n\n\n\n Text . \n");
  EXPECT_EQ(ReadOf("wikitext2_llama.cpp", lines).text, lines);
  EXPECT_EQ(ReadOf("ptb", " a b \n c \n").text, "a b c");
  EXPECT_EQ(ReadOf("c4", "{\"text\": \"A.\"}\n{\"text\": \"B \"}\n").text,
            "A. B ");
}

TEST(TasksTest, SaysWhatIsWrongWithData) {
  ExpectError(ErrorKind::kCorruptFile,
              "entry 1: no entry of piqa; expected "
              "the keys goal sol1 sol2 label (Hugging Face); or instruction",
              [] { ReadOf("piqa", R"([{"goal": 1}])"); });
  ExpectError(
      ErrorKind::kCorruptFile, "line 2: \"\" is no number of a right", [] {
        ReadOf("piqa",
               R"({"goal": "g", "sol1": "a", "sol2": "b", "label": 0})"
               "\n"
               R"({"goal": "g", "sol1": "a", "sol2": "b", "label": ""})");
      });
  ExpectError(ErrorKind::kCorruptFile, "line 1: not as data in the form", [] {
    ReadOf("piqa", R"({"goal": 5, "sol1": "a", "sol2": "b", "label": 0})");
  });
  ExpectError(ErrorKind::kCorruptFile, "right answer is number 3 of 2", [] {
    ReadOf("piqa", R"({"goal": "g", "sol1": "a", "sol2": "b", "label": 2})");
  });
  ExpectError(ErrorKind::kCorruptFile, "empty, expected entries",
              [] { ReadOf("piqa", " \n"); });
  ExpectError(ErrorKind::kUserInput, "gsm8k: 5 examples stand before", [] {
    ReadOf("gsm8k", R"({"question": "q", "answer": "a"})", {});
  });
}

}  // namespace
}  // namespace mobe
