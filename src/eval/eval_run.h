// Runs the tasks of `mobe eval` and tells what came out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/stop.h"
#include "eval/eval_log.h"
#include "eval/statistics.h"
#include "eval/task_data.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace mobe {

struct TaskRunOptions {
  int64_t limit = INT64_MAX;  // items: questions, or windows of a text
  int64_t context = 0;        // tokens of a window; 0: the protocol's
  uint32_t seed = 1234;       // of answers that are sampled
  ProgressFn progress = [](const ProgressEvent&) {};  // of this task alone
  StopFn stop = nullptr;
};

// Runs the items of a task that are not in the log, and adds them. `model_name`
// is "model" or "base", as the log has it. Returns the scores of all. Throws
// Stopped, with all that was finished in the log, and fails as what runs the
// model does.
std::vector<Score> RunTask(const Model& model, const Tokenizer& tokenizer,
                           const TaskData& data, const std::string& model_name,
                           const TaskRunOptions& options, EvalLog* log);

// About how much there is to do in a task, for progress: any unit, the same for
// all tasks.
double WorkOf(const TaskData& data);

// A metric of a task.
struct EvalResult {
  std::string task;
  std::string version;
  std::string form;
  std::string metric;
  int64_t shots = 0;
  int64_t items = 0;
  Estimate value;
  // Of the original, and value less that, by pairs of items.
  std::optional<Estimate> base = {};
  std::optional<Estimate> difference = {};
};

// Of each metric; `base` is empty when there is no such model.
std::vector<EvalResult> ResultsOf(const TaskData& data,
                                  std::span<const Score> scores,
                                  std::span<const Score> base);

}  // namespace mobe
