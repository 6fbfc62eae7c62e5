// Tasks whose answers are written.
#include <array>

#include "base/error.h"
#include "eval/bleu.h"
#include "eval/python_text.h"
#include "eval/run_code.h"
#include "eval/task.h"

namespace mobe {
namespace {

constexpr int64_t kLmEvalTokens = 256;  // its default, max_gen_toks

// ---- GSM8K

void AddGsm8k(const OrderedJson& entry, bool, std::vector<Question>* to) {
  to->push_back(
      {.contexts = {"Question: " + entry.at("question").get<std::string>() +
                    "\nAnswer:"},
       .answer = entry.at("answer").get<std::string>()});
}

constexpr DataForm kGsm8kForms[] = {{"original", "question answer", AddGsm8k}};

bool IsIn(char c, std::string_view set) {
  return set.find(c) != std::string_view::npos;
}
constexpr std::string_view kDigits = "0123456789";

constexpr const char* kInvalid = "[invalid]";

// The first of lm-eval's filter "strict-match", #### (\-?[0-9\.\,]+)
std::string StrictAnswer(std::string_view text) {
  constexpr std::string_view kBefore = "#### ";
  for (size_t at = 0; (at = text.find(kBefore, at)) != std::string_view::npos;
       ++at) {
    const size_t begin = at + kBefore.size();
    const size_t number = begin + (text.substr(begin).starts_with('-') ? 1 : 0);
    size_t end = number;
    while (end < text.size() && IsIn(text[end], "0123456789.,")) ++end;
    if (end > number) return std::string(text.substr(begin, end - begin));
  }
  return kInvalid;
}

// The last of "flexible-extract", (-?[$0-9.,]{2,})|(-?[0-9]+)
std::string FlexibleAnswer(std::string_view text) {
  std::string last = kInvalid;
  for (size_t i = 0; i < text.size();) {
    const size_t number = i + (text[i] == '-' ? 1 : 0);
    const auto run = [&](std::string_view set) {
      size_t end = number;
      while (end < text.size() && IsIn(text[end], set)) ++end;
      return end;
    };
    size_t end = run("$0123456789.,");
    if (end < number + 2) end = run(kDigits);
    if (end > number) {
      last = text.substr(i, end - i);
      i = end;
    } else {
      ++i;
    }
  }
  return last;
}

// What lm-eval's exact_match leaves of an answer: without "," and "$", without
// all up to the last "#### ", without a stop at the end.
std::string PlainAnswer(std::string_view text) {
  std::string plain = Replaced(Replaced(text, ",", ""), "$", "");
  const size_t mark = plain.rfind("#### ");
  if (mark != std::string_view::npos) plain.erase(0, mark + 5);
  if (plain.ends_with('.')) {
    plain.pop_back();
  } else if (plain.ends_with(".\n")) {
    plain.erase(plain.size() - 2, 1);
  }
  for (char& c : plain) {
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  }
  return plain;
}

Score ScoreGsm8k(const Question& question, std::span<const std::string> texts) {
  const std::string right = PlainAnswer(question.answer);
  Score score = {{0, 0}, {0, 0}};
  for (const std::string& text : texts) {
    const std::string answers[] = {StrictAnswer(text), FlexibleAnswer(text)};
    for (size_t i = 0; i < score.size(); ++i) {
      if (PlainAnswer(answers[i]) == right) ++score[i][0];
      ++score[i][1];
    }
  }
  return score;
}

// ---- HumanEval

void AddHumanEval(const OrderedJson& entry, bool, std::vector<Question>* to) {
  to->push_back({.contexts = {entry.at("prompt").get<std::string>()},
                 .answer = entry.at("canonical_solution").get<std::string>(),
                 .rest = entry});
}

constexpr DataForm kHumanEvalForms[] = {
    {"original", "prompt canonical_solution test entry_point", AddHumanEval}};

Score ScoreHumanEval(const Question& question,
                     std::span<const std::string> texts) {
  Score score = {{0, 0}};
  for (const std::string& text : texts) {
    const std::string program =
        question.contexts.front() + text + "\n" +
        question.rest.at("test").get<std::string>() + "\ncheck(" +
        question.rest.at("entry_point").get<std::string>() + ")";
    if (RunPython(program, {}) == CodeResult::kPassed) ++score[0][0];
    ++score[0][1];
  }
  return score;
}

// ---- Translation, with the prompt of lm-eval's wmt16 and other WMT tasks.

struct Language {
  std::string_view code;
  std::string_view name;
};
constexpr Language kLanguages[] = {
    {"ar", "Arabic"},    {"cs", "Czech"},      {"de", "German"},
    {"en", "English"},   {"es", "Spanish"},    {"et", "Estonian"},
    {"fi", "Finnish"},   {"fr", "French"},     {"gu", "Gujarati"},
    {"hi", "Hindi"},     {"it", "Italian"},    {"ja", "Japanese"},
    {"ko", "Korean"},    {"lt", "Lithuanian"}, {"lv", "Latvian"},
    {"nl", "Dutch"},     {"pl", "Polish"},     {"pt", "Portuguese"},
    {"ro", "Romanian"},  {"ru", "Russian"},    {"tr", "Turkish"},
    {"uk", "Ukrainian"}, {"zh", "Chinese"},
};

std::string NameOfLanguage(const std::string& code) {
  for (const Language& language : kLanguages) {
    if (language.code == code) return std::string(language.name);
  }
  Fail(ErrorKind::kUnsupported,
       "the language \"{}\" has no name here; add it to kLanguages in "
       "src/eval/tasks_writing.cc",
       code);
}

// The first of the two languages is the one to translate from.
void AddTranslation(const OrderedJson& entry, bool, std::vector<Question>* to) {
  const OrderedJson& pair = entry.at("translation");
  if (pair.size() != 2) {
    Fail(ErrorKind::kCorruptFile,
         "\"translation\" has {} languages, expected 2", pair.size());
  }
  const auto from = pair.begin();
  const auto into = std::next(from);
  const auto reference = into->get<std::string>();
  to->push_back({.contexts = {NameOfLanguage(from.key()) +
                              " phrase: " + from->get<std::string>() + "\n" +
                              NameOfLanguage(into.key()) + " phrase:"},
                 // lm-eval's target has a space of its own.
                 .answer = " " + reference,
                 .rest = {{"reference", reference}, {"into", into.key()}}});
}

constexpr DataForm kTranslationForms[] = {
    {"WMT", "translation", AddTranslation}};

Score ScoreTranslation(const Question& question,
                       std::span<const std::string> texts) {
  return {BleuSums(texts.front(),
                   question.rest.at("reference").get<std::string>(),
                   BleuTokensOf(question.rest.at("into").get<std::string>()))};
}

EvalTask Gsm8k(std::string_view name, std::string_view version,
               const SamplerOptions& sampler, int64_t times) {
  return {.name = name,
          .version = version,
          .metrics = {{"strict-match", MeanOfSums},
                      {"flexible-extract", MeanOfSums}},
          .forms = kGsm8kForms,
          .shots = 5,
          .writing = {.max_tokens = kLmEvalTokens,
                      .stop = {"Question:", "</s>", "<|im_end|>"},
                      .sampler = sampler,
                      .times = times},
          .score = ScoreGsm8k};
}

}  // namespace

std::span<const EvalTask> WritingTasks() {
  static const std::vector<EvalTask> tasks = {
      Gsm8k("gsm8k", "lm-eval 3.0", {}, 1),
      // As Qwen3's authors sample.
      Gsm8k("gsm8k_mean4", "mobe 1", {.temperature = 0.6, .top_p = 0.95}, 4),
      {.name = "humaneval",
       .version = "lm-eval 1.0",
       .metrics = {{"pass@1", MeanOfSums}},
       .forms = kHumanEvalForms,
       .writing = {.max_tokens = 1024,
                   .stop = {"\nclass", "\ndef", "\n#", "\nif", "\nprint"}},
       .score = ScoreHumanEval,
       .runs_code = true},
      {.name = "translation",
       .version = "lm-eval 1.0 (wmt16)",
       .metrics = {{"bleu", BleuOfSums, 10}},
       .forms = kTranslationForms,
       .writing = {.max_tokens = kLmEvalTokens, .stop = {"\n"}},
       .score = ScoreTranslation},
  };
  return tasks;
}

}  // namespace mobe
