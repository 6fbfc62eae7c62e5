// Tasks whose answers are chosen from: by the log-likelihoods that a model
// gives to each.

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "eval/python_text.h"
#include "eval/task.h"

namespace mobe {
namespace {

using Questions = std::vector<Question>;

std::string Text(const OrderedJson& entry, const char* key) {
  return entry.at(key).get<std::string>();
}

// A question about a context, with answers to choose from. What of the right
// one is not among them is an error of the data.
Question Choose(std::string context, const std::vector<std::string>& answers,
                size_t right) {
  if (right >= answers.size()) {
    Fail(ErrorKind::kCorruptFile, "the right answer is number {} of {}",
         right + 1, answers.size());
  }
  Question question{.contexts = {std::move(context)}, .right = right};
  for (const std::string& answer : answers) {
    question.choices.push_back(" " + answer);
  }
  question.answer = answers[right];
  return question;
}

// A whole number, or one in a string, less `first`: as an index.
size_t Index(const OrderedJson& value, int64_t first) {
  int64_t number = -1;
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc()) number = -1;
  } else {
    number = value.get<int64_t>();
  }
  if (number >= first) return static_cast<size_t>(number - first);
  Fail(ErrorKind::kCorruptFile,
       "{} is no number of a right answer (a test set without answers?)",
       value.dump());
}

// ---- The form of AGI-Edgerunners/LLM-Adapters: an instruction that lists the
// answers, "answer2" or so for the right one.

struct Adapted {
  std::string question;
  std::vector<std::string> answers;
  size_t right = 0;
};

// `lead` is what stands before the question, `label` before the answers'
// numbers.
Adapted ReadAdapted(const OrderedJson& entry, std::string_view lead,
                    const std::string& label) {
  const std::string text = Text(entry, "instruction");
  const auto find = [&](const std::string& what, size_t from) {
    const size_t at = text.find(what, from);
    if (at != std::string_view::npos) return at;
    Fail(ErrorKind::kCorruptFile, "\"instruction\" has no \"{}\"", what);
  };
  // What parts an answer from the next thing is a blank line or a space.
  const auto until = [&](size_t begin, size_t end) {
    const bool line = end >= begin + 2 && text.compare(end - 2, 2, "\n\n") == 0;
    return text.substr(begin, end - (line ? 2 : 1) - begin);
  };
  const size_t format = find("Answer format: ", 0);
  Adapted adapted;
  if (!text.starts_with(lead)) find(std::string(lead), text.size());
  size_t begin = find(label + "1: ", 0);
  adapted.question = until(lead.size(), begin);
  const auto count =
      static_cast<size_t>(1 + std::ranges::count(text.substr(format), '/'));
  for (size_t i = 1; i <= count; ++i) {
    begin += label.size() + 3;
    const size_t end =
        i == count ? format : find(label + std::to_string(i + 1) + ": ", begin);
    adapted.answers.push_back(until(begin, end));
    begin = end;
  }
  const std::string answer = Text(entry, "answer");
  adapted.right =
      Index(answer.substr(std::min(answer.size(), label.size())), 1);
  return adapted;
}

constexpr std::string_view kAdapterKeys = "instruction output answer";
constexpr std::string_view kAdapters = "LLM-Adapters";
constexpr std::string_view kAnswerLead =
    "Please choose the correct answer to the question: ";

// ---- ARC and OpenBookQA: answers with labels.

struct Labelled {
  std::vector<std::string> texts;
  size_t right = 0;
};

Labelled ReadLabelled(const OrderedJson& texts, const OrderedJson& labels,
                      std::string right) {
  right.erase(0, right.find_first_not_of(' '));
  Labelled answers{texts.get<std::vector<std::string>>()};
  const auto at = std::ranges::find(labels, OrderedJson(right));
  answers.right = static_cast<size_t>(at - labels.begin());
  return answers;
}

// {"choices": {"text": [...], "label": [...]}, "answerKey": "B"}
Labelled HuggingFaceChoices(const OrderedJson& entry) {
  const OrderedJson& choices = entry.at("choices");
  return ReadLabelled(choices.at("text"), choices.at("label"),
                      Text(entry, "answerKey"));
}

// {"question": {"stem": ..., "choices": [{"text", "label"}, ...]}, "answerKey"}
Labelled OriginalChoices(const OrderedJson& entry) {
  OrderedJson texts = OrderedJson::array();
  OrderedJson labels = OrderedJson::array();
  for (const OrderedJson& choice : entry.at("question").at("choices")) {
    texts.push_back(choice.at("text"));
    labels.push_back(choice.at("label"));
  }
  return ReadLabelled(texts, labels, Text(entry, "answerKey"));
}

std::string ArcPrompt(const std::string& question) {
  return "Question: " + question + "\nAnswer:";
}

constexpr DataForm kArcForms[] = {
    {"Hugging Face", "question choices answerKey",
     [](const OrderedJson& entry, bool, Questions* to) {
       const Labelled answers = HuggingFaceChoices(entry);
       to->push_back(Choose(ArcPrompt(Text(entry, "question")), answers.texts,
                            answers.right));
     }},
    {"AI2", "question answerKey",
     [](const OrderedJson& entry, bool, Questions* to) {
       const Labelled answers = OriginalChoices(entry);
       to->push_back(Choose(ArcPrompt(Text(entry.at("question"), "stem")),
                            answers.texts, answers.right));
     }},
    {kAdapters, kAdapterKeys,
     [](const OrderedJson& entry, bool, Questions* to) {
       const Adapted adapted = ReadAdapted(entry, kAnswerLead, "Answer");
       to->push_back(
           Choose(ArcPrompt(adapted.question), adapted.answers, adapted.right));
     }},
};

constexpr DataForm kOpenBookForms[] = {
    {"Hugging Face", "question_stem choices answerKey",
     [](const OrderedJson& entry, bool, Questions* to) {
       const Labelled answers = HuggingFaceChoices(entry);
       to->push_back(
           Choose(Text(entry, "question_stem"), answers.texts, answers.right));
     }},
    {"AI2", "question answerKey",
     [](const OrderedJson& entry, bool, Questions* to) {
       const Labelled answers = OriginalChoices(entry);
       to->push_back(Choose(Text(entry.at("question"), "stem"), answers.texts,
                            answers.right));
     }},
    {kAdapters, kAdapterKeys,
     [](const OrderedJson& entry, bool, Questions* to) {
       const Adapted adapted = ReadAdapted(entry, kAnswerLead, "Answer");
       to->push_back(Choose(adapted.question, adapted.answers, adapted.right));
     }},
};

// ---- BoolQ

Question BoolQ(const std::string& passage, std::string question, bool yes) {
  return Choose(passage + "Question: " + question + "?\nAnswer:", {"no", "yes"},
                yes ? 1 : 0);
}

constexpr DataForm kBoolQForms[] = {
    {"Hugging Face", "question passage label",
     [](const OrderedJson& entry, bool, Questions* to) {
       to->push_back(BoolQ(Text(entry, "passage") + "\n",
                           Text(entry, "question"),
                           Index(entry.at("label"), 0) == 1));
     }},
    {"original", "question passage answer",
     [](const OrderedJson& entry, bool, Questions* to) {
       to->push_back(BoolQ(Text(entry, "passage") + "\n",
                           Text(entry, "question"),
                           entry.at("answer").get<bool>()));
     }},
    {kAdapters, kAdapterKeys,
     [](const OrderedJson& entry, bool, Questions* to) {
       const std::string text = Text(entry, "instruction");
       constexpr std::string_view kLead = ", question: ";
       size_t begin = text.find(kLead);
       begin = begin == std::string_view::npos ? 0 : begin + kLead.size();
       std::string question = text.substr(begin, text.find("\n\n") - begin);
       if (question.ends_with('?')) question.pop_back();
       to->push_back(BoolQ("", question, Text(entry, "answer") == "true"));
     },
     "without passages"},
};

// ---- HellaSwag

// What lm-eval does to its texts.
std::string CleanHellaSwag(std::string_view text) {
  std::string clean = Replaced(PythonStrip(text), " [title]", ". ");
  for (size_t open = 0;
       (open = clean.find('[', open)) != std::string_view::npos;) {
    const size_t close = clean.find(']', open);
    // Python's dot is no line feed.
    if (close == std::string_view::npos || clean.find('\n', open) < close) {
      ++open;
    } else {
      clean.erase(open, close + 1 - open);
    }
  }
  return Replaced(clean, "  ", " ");
}

Question HellaSwag(const std::string& label, const std::string& beginning,
                   const std::string& last,
                   const std::vector<std::string>& endings, size_t right) {
  std::vector<std::string> clean;
  for (const std::string& ending : endings) {
    clean.push_back(CleanHellaSwag(ending));
  }
  return Choose(
      CleanHellaSwag(label + beginning + " " + PythonCapitalize(last)), clean,
      right);
}

// LLM-Adapters has one text for the beginning and what is to be ended. What is
// to be ended is what follows the last sentence; there is none in WikiHow's
// texts, which have headers.
Question AdaptedHellaSwag(const OrderedJson& entry) {
  const Adapted adapted = ReadAdapted(
      entry,
      "Please choose the correct ending to complete the given sentence: ",
      "Ending");
  const std::string& text = adapted.question;
  size_t end = text.size();
  if (text.find("[header]") == std::string_view::npos) {
    for (size_t i = text.size(); i-- > 1;) {
      if (text[i] == ' ' && std::string_view(".!?\"')").find(text[i - 1]) !=
                                std::string_view::npos) {
        end = i;
        break;
      }
      if (std::string_view(".!?").find(text[i]) != std::string_view::npos) {
        break;
      }
    }
  }
  return HellaSwag("", text.substr(0, end),
                   text.substr(std::min(end + 1, text.size())), adapted.answers,
                   adapted.right);
}

constexpr DataForm kHellaSwagForms[] = {
    {"Hugging Face", "activity_label ctx_a ctx_b endings label",
     [](const OrderedJson& entry, bool, Questions* to) {
       to->push_back(
           HellaSwag(Text(entry, "activity_label") + ": ", Text(entry, "ctx_a"),
                     Text(entry, "ctx_b"),
                     entry.at("endings").get<std::vector<std::string>>(),
                     Index(entry.at("label"), 0)));
     }},
    {kAdapters, kAdapterKeys,
     [](const OrderedJson& entry, bool, Questions* to) {
       to->push_back(AdaptedHellaSwag(entry));
     }},
};

// ---- PIQA

constexpr DataForm kPiqaForms[] = {
    {"Hugging Face", "goal sol1 sol2 label",
     [](const OrderedJson& entry, bool, Questions* to) {
       to->push_back(Choose(ArcPrompt(Text(entry, "goal")),
                            {Text(entry, "sol1"), Text(entry, "sol2")},
                            Index(entry.at("label"), 0)));
     }},
    {kAdapters, kAdapterKeys,
     [](const OrderedJson& entry, bool, Questions* to) {
       const Adapted adapted = ReadAdapted(
           entry,
           "Please choose the correct solution to the question: ", "Solution");
       to->push_back(
           Choose(ArcPrompt(adapted.question), adapted.answers, adapted.right));
     }},
};

// ---- Social IQa

constexpr DataForm kSiqaForms[] = {
    {"Hugging Face", "context question answerA answerB answerC label",
     [](const OrderedJson& entry, bool, Questions* to) {
       to->push_back(Choose("Q: " + Text(entry, "context") + " " +
                                Text(entry, "question") + "\nA:",
                            {Text(entry, "answerA"), Text(entry, "answerB"),
                             Text(entry, "answerC")},
                            Index(entry.at("label"), 1)));
     }},
    {kAdapters, kAdapterKeys,
     [](const OrderedJson& entry, bool, Questions* to) {
       const Adapted adapted = ReadAdapted(entry, kAnswerLead, "Answer");
       to->push_back(Choose("Q: " + adapted.question + "\nA:", adapted.answers,
                            adapted.right));
     }},
};

// ---- WinoGrande: the same end of a sentence behind each answer.

Question WinoGrande(const std::string& sentence,
                    const std::vector<std::string>& options, size_t right) {
  const size_t blank = sentence.find('_');
  if (blank == std::string_view::npos) {
    Fail(ErrorKind::kCorruptFile, "the sentence has no blank, _");
  }
  const std::string end = PythonStrip(sentence.substr(blank + 1));
  Question question = Choose("", options, right);
  question.contexts.clear();
  for (const std::string& option : options) {
    question.contexts.push_back(sentence.substr(0, blank) + option);
  }
  question.choices = {" " + end};
  question.answer = end;
  return question;
}

constexpr DataForm kWinoGrandeForms[] = {
    {"Hugging Face", "sentence option1 option2 answer",
     [](const OrderedJson& entry, bool, Questions* to) {
       to->push_back(
           WinoGrande(Text(entry, "sentence"),
                      {Text(entry, "option1"), Text(entry, "option2")},
                      Index(entry.at("answer"), 1)));
     }},
    {kAdapters, kAdapterKeys,
     [](const OrderedJson& entry, bool, Questions* to) {
       const Adapted adapted = ReadAdapted(
           entry,
           "Please choose the correct answer to fill in the blank to complete "
           "the given sentence: ",
           "Option");
       to->push_back(
           WinoGrande(adapted.question, adapted.answers, adapted.right));
     }},
};

// ---- CLINC150: the name of an intent, of all that the file has. lm-eval has
// no such task.

void AddIntents(const OrderedJson& entry, bool examples, Questions* to) {
  const auto name = [](const OrderedJson& pair) {
    return Replaced(pair.at(1).get<std::string>(), "_", " ");
  };
  std::vector<std::string> names;
  for (const OrderedJson& pair : entry.at("train")) names.push_back(name(pair));
  std::ranges::sort(names);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const OrderedJson& pair : entry.at(examples ? "train" : "test")) {
    const auto at = std::ranges::find(names, name(pair));
    to->push_back(
        Choose("Request: " + pair.at(0).get<std::string>() + "\nIntent:", names,
               static_cast<size_t>(at - names.begin())));
  }
}

constexpr DataForm kIntentForms[] = {{"CLINC150", "train test", AddIntents}};

const EvalMetric kAcc = {"acc", MeanOfSums};
const EvalMetric kAccNorm = {"acc_norm", MeanOfSums};

}  // namespace

std::span<const EvalTask> ChoiceTasks() {
  static const std::vector<EvalTask> tasks = {
      {.name = "arc_easy",
       .version = "lm-eval 1.0",
       .metrics = {kAcc, kAccNorm},
       .forms = kArcForms},
      {.name = "arc_challenge",
       .version = "lm-eval 1.0",
       .metrics = {kAcc, kAccNorm},
       .forms = kArcForms},
      {.name = "boolq",
       .version = "lm-eval 2.0",
       .metrics = {kAcc},
       .forms = kBoolQForms,
       .draws_one_more = true},
      {.name = "hellaswag",
       .version = "lm-eval 1.0",
       .metrics = {kAcc, kAccNorm},
       .forms = kHellaSwagForms,
       .draws_one_more = true},
      {.name = "openbookqa",
       .version = "lm-eval 1.0",
       .metrics = {kAcc, kAccNorm},
       .forms = kOpenBookForms},
      {.name = "piqa",
       .version = "lm-eval 1.0",
       .metrics = {kAcc, kAccNorm},
       .forms = kPiqaForms,
       .draws_one_more = true},
      {.name = "siqa",
       .version = "lm-eval 0.0",
       .metrics = {kAcc},
       .forms = kSiqaForms,
       .draws_one_more = true},
      {.name = "winogrande",
       .version = "lm-eval 1.0",
       .metrics = {kAcc},
       .forms = kWinoGrandeForms,
       .draws_one_more = true},
      {.name = "intent",
       .version = "mobe 1",
       .metrics = {kAcc},
       .forms = kIntentForms},
  };
  return tasks;
}

}  // namespace mobe
