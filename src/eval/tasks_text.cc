// Tasks that measure the perplexity of a text, by the windows of
// eval/windows.h. What of a data set is the text is part of a published number,
// too, so each takes it as those do that are compared with.
#include "eval/python_text.h"
#include "eval/task.h"

namespace mobe {
namespace {

// A row of the data set "wikitext-2-raw-v1": nothing for a line that is blank.
std::string WikitextRow(const std::string& line) {
  return PythonStrip(line).empty() ? "" : line + "\n";
}

// The page "Perplexity of fixed-length models" of the documentation of
// transformers, GPTQ, SparseGPT and those after them.
std::string JoinedWikitext(std::span<const std::string> lines) {
  std::string text;
  for (const std::string& line : lines) {
    if (&line != lines.data()) text += "\n\n";
    text += WikitextRow(line);
  }
  return text;
}

// The file wiki.test.raw: llama.cpp.
std::string RawWikitext(std::span<const std::string> lines) {
  std::string text;
  for (const std::string& line : lines) {
    const std::string row = WikitextRow(line);
    text += row.empty() ? " \n" : row;
  }
  return text;
}

// GPTQ's C4: documents with a space between.
std::string JoinedDocuments(std::span<const std::string> lines) {
  std::string text;
  for (const std::string& line : lines) {
    if (&line != lines.data()) text += ' ';
    text += line;
  }
  return text;
}

// GPTQ's Penn Treebank: sentences, without the spaces around them.
std::string JoinedSentences(std::span<const std::string> lines) {
  std::vector<std::string> sentences;
  for (const std::string& line : lines) sentences.push_back(PythonStrip(line));
  return JoinedDocuments(sentences);
}

EvalTask PerplexityTask(std::string_view name, std::string_view protocol,
                        std::string (*text)(std::span<const std::string>)) {
  return {.name = name,
          .version = "mobe 1",
          .metrics = {{"perplexity", ExpMeanOfSums}},
          .text = text,
          .protocol = protocol};
}

}  // namespace

std::span<const EvalTask> TextTasks() {
  static const std::vector<EvalTask> tasks = {
      PerplexityTask("wikitext2", "hf", JoinedWikitext),
      PerplexityTask("wikitext2_llama.cpp", "llama.cpp", RawWikitext),
      PerplexityTask("c4", "hf", JoinedDocuments),
      PerplexityTask("c4_llama.cpp", "llama.cpp", JoinedDocuments),
      PerplexityTask("ptb", "hf", JoinedSentences),
      PerplexityTask("ptb_llama.cpp", "llama.cpp", JoinedSentences),
  };
  return tasks;
}

}  // namespace mobe
