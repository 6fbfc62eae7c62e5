// What `mobe eval` measures: each task is a row of a table (tasks_*.cc), which
// says how questions are made of a data file and how answers are scored.
//
// Prompts and scores are those of the task of the same name in lm-eval
// (EleutherAI/lm-evaluation-harness, read at commit 4e7e0d47f33b, 0.4.13.dev0),
// where it has one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ordered_json.h"
#include "eval/statistics.h"
#include "model/sampler.h"

namespace mobe {

// An entry of a data file, made into what a model is asked.
struct Question {
  // What it reads: one text, or one for each answer.
  std::vector<std::string> contexts;
  // The answers that it chooses from, a space before each; none when it writes
  // one. Only one where the contexts differ.
  std::vector<std::string> choices = {};
  size_t right = 0;  // index of a choice, or of a context
  // The right answer, for examples and for scoring what was written.
  std::string answer = {};
  OrderedJson rest = {};  // what else scoring needs
};

// A form that the data of a task comes in, known by the keys of an entry.
struct DataForm {
  std::string_view name;
  std::string_view keys;  // with spaces between
  // Adds the entry's questions; `examples`: those that are to be shown with
  // others, where an entry has both. What is not as the keys say throws as
  // nlohmann::json does, or Error.
  void (*add)(const OrderedJson& entry, bool examples,
              std::vector<Question>* questions);
  std::string_view differs = {};  // in what, from lm-eval's prompts
};

struct EvalMetric {
  std::string_view name;
  OfSums number;
  size_t terms = 2;  // of its Sums
};

// Of a question, the sums of each of its task's metrics.
using Score = std::vector<Sums>;

// How a model writes an answer.
struct Writing {
  int64_t max_tokens = 0;
  std::vector<std::string> stop = {};
  SamplerOptions sampler = {};
  int64_t times = 1;  // with other random numbers each
};

struct EvalTask {
  std::string_view name;
  std::string_view version;  // "lm-eval 3.0", or "mobe 1"
  std::vector<EvalMetric> metrics = {};
  // The first that fits; none: a text is read.
  std::span<const DataForm> forms = {};

  // Examples before each question: how many, and whether lm-eval draws one more
  // and leaves out what is the question itself.
  int64_t shots = 0;
  bool draws_one_more = false;

  // Where the model writes: how, and the score of the texts.
  Writing writing = {};
  Score (*score)(const Question& question,
                 std::span<const std::string> texts) = nullptr;
  bool runs_code = false;

  // Where it reads a text: which, of a file's lines without their line feeds
  // (those of JSON are their "text" or "sentence"), and the name of a Protocol.
  std::string (*text)(std::span<const std::string> lines) = nullptr;
  std::string_view protocol = {};
};

// Of questions with choices: whether the right one has the largest of the
// log-likelihoods, and of these divided by its length in characters, which is
// how lm-eval's acc and acc_norm are. The first of equals counts.
Score ScoreOfChoices(const Question& question,
                     std::span<const double> log_likelihoods);

std::span<const EvalTask> ChoiceTasks();
std::span<const EvalTask> WritingTasks();
std::span<const EvalTask> TextTasks();

// All of them.
std::vector<const EvalTask*> EvalTasks();

}  // namespace mobe
