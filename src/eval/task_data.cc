#include "eval/task_data.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/error.h"
#include "base/hash.h"
#include "base/text_file.h"
#include "eval/python_random.h"

namespace mobe {
namespace {

// An entry, and where it is, for messages.
struct DataEntry {
  OrderedJson value;
  std::string where;
};

// An object or list may go over many lines; lines of JSON each hold an object.
std::vector<DataEntry> EntriesOf(const std::string& text,
                                 const std::string& source) {
  std::vector<DataEntry> entries;
  const std::vector<std::string> lines = LinesOf(text);
  const auto first = std::ranges::find_if_not(lines, IsBlankLine);
  if (first == lines.end()) {
    Fail(ErrorKind::kCorruptFile, "{}: empty, expected entries in JSON",
         source);
  }
  if (first->starts_with('{') && OrderedJson::accept(*first)) {
    for (size_t i = 0; i < lines.size(); ++i) {
      if (IsBlankLine(lines[i])) continue;
      std::string where = fmt::format("{}: line {}", source, i + 1);
      entries.push_back({ParseOrderedJson(lines[i], where), where});
    }
    return entries;
  }
  OrderedJson whole = ParseOrderedJson(text, source);
  if (!whole.is_array()) whole = OrderedJson::array({std::move(whole)});
  for (size_t i = 0; i < whole.size(); ++i) {
    entries.push_back(
        {std::move(whole[i]), fmt::format("{}: entry {}", source, i + 1)});
  }
  return entries;
}

bool Fits(const DataForm& form, const OrderedJson& entry) {
  for (std::string_view rest = form.keys; !rest.empty();) {
    const size_t end = std::min(rest.find(' '), rest.size());
    if (!entry.contains(std::string(rest.substr(0, end)))) return false;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return true;
}

const DataForm& FormOf(const EvalTask& task, const DataEntry& entry) {
  std::string forms;
  for (const DataForm& form : task.forms) {
    if (Fits(form, entry.value)) return form;
    forms += fmt::format("{}{} ({})", forms.empty() ? "" : "; or ", form.keys,
                         form.name);
  }
  Fail(ErrorKind::kCorruptFile, "{}: no entry of {}; expected the keys {}",
       entry.where, task.name, forms);
}

// `last` becomes the form of the last entry.
std::vector<Question> QuestionsOf(const EvalTask& task, const std::string& text,
                                  const std::string& source, bool examples,
                                  const DataForm** last) {
  std::vector<Question> questions;
  for (const DataEntry& entry : EntriesOf(text, source)) {
    const DataForm& form = FormOf(task, entry);
    *last = &form;
    try {
      form.add(entry.value, examples, &questions);
    } catch (const Error& e) {
      throw Error(e.kind(), entry.where + ": " + e.what());
    } catch (const OrderedJson::exception& e) {
      Fail(ErrorKind::kCorruptFile, "{}: not as data in the form {} are: {}",
           entry.where, form.name, e.what());
    }
  }
  return questions;
}

// A question with its answer, as lm-eval shows it before others.
std::string ExampleOf(const Question& question) {
  const size_t context = question.contexts.size() > 1 ? question.right : 0;
  return question.contexts[context] + " " + question.answer + "\n\n";
}

// Puts examples before each question. All of a task come from one sequence of
// random numbers, so those of a question depend on how many were before it.
void AddExamples(const std::vector<Question>& pool, const TaskData& data,
                 std::vector<Question>* questions) {
  PythonRandom random(data.seed);
  const auto shots = static_cast<size_t>(data.shots);
  const size_t drawn = shots + (data.task->draws_one_more ? 1 : 0);
  for (Question& question : *questions) {
    const std::string itself = ExampleOf(question);
    std::string examples;
    size_t count = 0;
    for (const size_t i : random.Sample(pool.size(), drawn)) {
      const std::string example = ExampleOf(pool[i]);
      if (data.task->draws_one_more && example == itself) continue;
      if (count++ < shots) examples += example;
    }
    for (std::string& context : question.contexts) {
      context.insert(0, examples);
    }
  }
}

// What a text is made of: lines, or a key of each entry.
std::string TextOf(const EvalTask& task, const std::string& text,
                   const std::string& source) {
  std::vector<std::string> lines = LinesOf(text);
  const auto first = std::ranges::find_if_not(lines, IsBlankLine);
  if (first != lines.end() && first->starts_with('{') &&
      OrderedJson::accept(*first)) {
    lines.clear();
    for (const DataEntry& entry : EntriesOf(text, source)) {
      const char* key = entry.value.contains("text") ? "text" : "sentence";
      const auto at = entry.value.find(key);
      if (at == entry.value.end() || !at->is_string()) {
        Fail(ErrorKind::kCorruptFile,
             "{}: expected a string under \"text\" or \"sentence\"",
             entry.where);
      }
      lines.push_back(at->get<std::string>());
      if (lines.back().ends_with('\n')) lines.back().pop_back();
    }
  }
  return task.text(lines);
}

std::string HashText(const std::string& text) {
  return HashBytes(std::as_bytes(std::span(text)));
}

}  // namespace

TaskData ReadTask(const EvalTask& task, const TaskFiles& files,
                  const TaskOptions& options) {
  const std::string source = files.data.string();
  const std::string text = ReadTextFile(files.data);
  TaskData data{.task = &task,
                .version = std::string(task.version),
                .data_hash = HashText(text)};
  if (task.text != nullptr) {
    data.form = "text";
    data.text = TextOf(task, text, source);
    return data;
  }
  const DataForm* form = nullptr;
  data.questions = QuestionsOf(task, text, source, /*examples=*/false, &form);
  if (data.questions.empty()) {
    Fail(ErrorKind::kCorruptFile, "{}: no entries", source);
  }
  data.form = form->name;
  if (!form->differs.empty()) {
    data.version += fmt::format(", {}", form->differs);
  }
  if (std::cmp_less(options.limit, data.questions.size())) {
    data.questions.resize(static_cast<size_t>(options.limit));
  }
  data.shots = options.shots < 0 ? task.shots : options.shots;
  if (data.shots == 0) return data;
  data.seed = options.seed;
  if (files.examples.empty()) {
    Fail(ErrorKind::kUserInput,
         "{}: {} examples stand before each question; name a file that they "
         "are drawn from (the training set) with --shots-file, or take --shots "
         "0",
         task.name, data.shots);
  }
  const std::string examples = ReadTextFile(files.examples);
  data.examples_hash = HashText(examples);
  const std::vector<Question> pool = QuestionsOf(
      task, examples, files.examples.string(), /*examples=*/true, &form);
  const int64_t needed = data.shots + (task.draws_one_more ? 1 : 0);
  if (std::cmp_less(pool.size(), needed)) {
    Fail(ErrorKind::kUserInput, "{}: {} entries, but {} are drawn for {}",
         files.examples.string(), pool.size(), needed, task.name);
  }
  AddExamples(pool, data, &data.questions);
  return data;
}

}  // namespace mobe
