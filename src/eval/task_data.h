// A task's questions, from files that the user names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "eval/task.h"

namespace mobe {

struct TaskFiles {
  std::filesystem::path data;
  std::filesystem::path examples = {};  // empty: none
};

struct TaskOptions {
  int64_t shots = -1;         // examples before a question; -1: the task's
  int64_t limit = INT64_MAX;  // questions, the first
  uint32_t seed = 1234;       // of the examples that are drawn; lm-eval's
};

struct TaskData {
  const EvalTask* task = nullptr;
  std::string version = {};  // with what of the form differs
  std::string form = {};     // "LLM-Adapters"
  int64_t shots = 0;         // examples before each question
  // What else makes the questions: hashes, seed. For telling runs apart.
  std::string data_hash = {};
  std::string examples_hash = {};
  uint32_t seed = 0;
  // With the examples, which are part of the contexts; or the text.
  std::vector<Question> questions = {};
  std::string text = {};
};

// Data are JSON lines, a JSON list, or one object; for tasks that read a text
// also lines of text. Examples come from another file of the same form, and are
// drawn for each question as lm-eval draws them. Fails with kUserInput for
// examples that are wanted and missing, with kCorruptFile for an entry that is
// in no form of the task's, naming the forms, and as ReadTextFile does.
TaskData ReadTask(const EvalTask& task, const TaskFiles& files,
                  const TaskOptions& options);

}  // namespace mobe
