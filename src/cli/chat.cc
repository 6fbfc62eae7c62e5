// mobe chat: a conversation with a model, typed or from a file.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/text_file.h"
#include "cli/chat_file.h"
#include "cli/closest.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/generate_options.h"
#include "cli/line_reader.h"
#include "cli/run_options.h"
#include "cli/stop_signals.h"
#include "io/hub.h"
#include "text/chat_template.h"

namespace mobe {
namespace {

struct ChatArguments {
  std::string model;
  std::string system;
  std::string messages_file;
  std::string chat_template;  // a file or a name
  std::string template_arguments;
  bool prompt_only = false;
  int64_t context = 8192;
  LoadOptions load = kTextOptions;
  GenerateOptions generate = {.max_tokens = 4096};
};

// As OpenAI's API has them; content may be more than a text.
OrderedJson NewMessage(const char* role, const std::string& content) {
  return {{"role", role}, {"content", content}};
}

bool BeginsWithSystem(const OrderedJson& messages) {
  return !messages.empty() && messages[0].value("role", "") == "system";
}

// Puts a system message before the others; an empty one takes it away.
void SetSystem(const std::string& text, OrderedJson* messages) {
  if (BeginsWithSystem(*messages)) messages->erase(0);
  if (!text.empty()) {
    messages->insert(messages->begin(), NewMessage("system", text));
  }
}

ChatTemplate LoadTemplate(const ChatArguments& options,
                          const ChatOptions& chat) {
  return ChatTemplate::Load(options.model, options.chat_template,
                            !chat.tools.is_null());
}

ChatOptions ReadChatOptions(const ChatArguments& options) {
  ChatOptions chat;
  if (options.template_arguments.empty()) return chat;
  chat.arguments =
      ParseOrderedJson(options.template_arguments, "--template-args");
  if (!chat.arguments.is_object()) {
    Fail(ErrorKind::kUserInput,
         "--template-args: expected a JSON object, found {}",
         chat.arguments.type_name());
  }
  return chat;
}

Model LoadModel(const ChatArguments& options) {
  LoadOptions load = options.load;
  load.cache_tokens = options.context;
  return Model::Load(options.model, load);
}

int64_t ContextOf(const Model& model, const ChatArguments& options) {
  return std::min(options.context, model.config().max_positions);
}

// --- A conversation from a file.

void AnswerFile(const ChatArguments& options, const CommonOptions& common) {
  ChatOptions chat = ReadChatOptions(options);
  auto [messages, tools] = ReadChatFile(options.messages_file);
  chat.tools = std::move(tools);
  if (!options.system.empty() && messages.is_array()) {
    SetSystem(options.system, &messages);
  }
  const std::string prompt = LoadTemplate(options, chat).Render(messages, chat);
  if (options.prompt_only) {
    common.json ? PrintJson({{"prompt", prompt}}) : PrintAnswer(prompt);
    return;
  }
  const Tokenizer tokenizer = Tokenizer::Load(options.model);
  const Model model = LoadModel(options);
  PrintMemory(model, common);
  GenerateSession session(model, tokenizer, ContextOf(model, options));
  std::string text;
  const GenerateResult result = session.Generate(
      tokenizer.Encode(prompt), options.generate, [&](std::string_view piece) {
        text += piece;
        if (!common.json) PrintAnswer(piece);
      });
  common.json ? PrintJson(GenerateJson(text, result)) : PrintText("\n");
  PrintSpeed(model.statistics(), common);
  PrintExperts(model, model.statistics(), common);
}

// --- A conversation that is typed, or piped line by line.

class Conversation {
 public:
  Conversation(const ChatArguments& options, const CommonOptions& common)
      : options_(options),
        common_(common),
        chat_(ReadChatOptions(options)),
        template_(LoadTemplate(options, chat_)),
        tokenizer_(Tokenizer::Load(options.model)),
        model_(LoadModel(options)),
        session_(model_, tokenizer_, ContextOf(model_, options)),
        typed_(::isatty(STDIN_FILENO) == 1),
        notes_(typed_ && !common.quiet) {
    SetSystem(options.system, &messages_);
    PrintMemory(model_, common);
  }

  void Run() {
    Note("/help lists the commands, Ctrl-D leaves");
    while (std::optional<std::string> text = Read()) {
      if (text->starts_with('/')) {
        if (!Command(*text)) return;
      } else if (!text->empty()) {
        Answer(*text);
      }
    }
  }

 private:
  void Note(const std::string& text) const {
    if (notes_) PrintNote("(" + text + ")");
  }

  // A line, or several joined by backslashes; nothing at the end.
  std::optional<std::string> Read() {
    std::string text;
    bool interrupted = false;
    for (;;) {
      std::string line;
      const LineReader::Outcome outcome =
          reader_->Read(text.empty() ? "> " : ". ", &line);
      if (outcome == LineReader::Outcome::kLine) {
        const bool more = line.ends_with('\\');
        if (more) line.back() = '\n';
        text += line;
        if (!more) return DecodeText(std::move(text), "a line");
        interrupted = false;
        continue;
      }
      if (typed_) PrintText("\n");
      if (outcome == LineReader::Outcome::kEnd && !text.empty()) {
        return DecodeText(std::move(text), "a line");
      }
      if (outcome == LineReader::Outcome::kEnd || !typed_ || interrupted) {
        return std::nullopt;
      }
      interrupted = true;
      text.clear();
      PrintNote("(Ctrl-C again, Ctrl-D or /quit leaves)");
    }
  }

  struct Word {
    const char* name;
    const char* argument;
    const char* help;
    void (Conversation::*run)(const std::string& argument);  // null: leave
  };
  static const std::vector<Word>& Words() {
    static const std::vector<Word> words = {
        {"/reset", "", "begin anew, with the same system message",
         &Conversation::Reset},
        {"/system", "TEXT", "set the system message; without TEXT: none",
         &Conversation::System},
        {"/save", "FILE", "write the conversation, for /load and --messages",
         &Conversation::Save},
        {"/load", "FILE", "go on with the conversation in the file",
         &Conversation::Load},
        {"/help", "", "this", &Conversation::Help},
        {"/quit", "", "leave, as Ctrl-D does", nullptr}};
    return words;
  }

  // Whether the conversation goes on.
  bool Command(const std::string& line) {
    const size_t end = std::min(line.find_first_of(" \t"), line.size());
    const std::string name = line.substr(0, end);
    const size_t argument = line.find_first_not_of(" \t", end);
    const auto word = std::ranges::find(Words(), name, &Word::name);
    if (word == Words().end()) {
      NoCommand(name);
      return true;
    }
    if (word->run == nullptr) return false;
    Try([&] {
      (this->*word->run)(argument == std::string::npos ? ""
                                                       : line.substr(argument));
    });
    return true;
  }

  void NoCommand(const std::string& name) const {
    std::vector<std::string> names;
    for (const Word& word : Words()) names.emplace_back(word.name);
    const std::string meant = DidYouMean(name, names);
    PrintNote(fmt::format(
        "({} is no command{} /help lists them. To say it, put a blank before "
        "it.)",
        name, meant.empty() ? ";" : meant));
  }

  void Help(const std::string&) {
    for (const Word& word : Words()) {
      const std::string what = fmt::format("{} {}", word.name, word.argument);
      PrintNote(fmt::format("{:13} {}", what, word.help));
    }
    PrintNote("A line that ends in \\ goes on in the next one.");
    PrintNote("Ctrl-C stops an answer.");
  }

  void Reset(const std::string&) {
    while (messages_.size() > (BeginsWithSystem(messages_) ? 1 : 0)) {
      messages_.erase(messages_.size() - 1);
    }
  }

  void System(const std::string& text) { SetSystem(text, &messages_); }

  void Save(const std::string& file) {
    if (file.empty()) Fail(ErrorKind::kUserInput, "/save: expected a file");
    WriteChatFile(file, options_.model, messages_);
    Note(fmt::format("{} messages in {}", messages_.size(), file));
  }

  void Load(const std::string& file) {
    if (file.empty()) Fail(ErrorKind::kUserInput, "/load: expected a file");
    ChatFile chat = ReadChatFile(file);
    if (!chat.tools.is_null()) {
      Fail(ErrorKind::kUserInput,
           "{}: has tools; such a conversation is answered by --messages",
           file);
    }
    template_.Render(chat.messages, chat_);  // fails on what is no conversation
    messages_ = std::move(chat.messages);
    Note(fmt::format("{} messages from {}", messages_.size(), file));
  }

  // Typed, a failure is told, and all is as before; piped, it ends the program.
  template <class Work>
  bool Try(const Work& work) {
    try {
      work();
      return true;
    } catch (const Error& e) {
      if (!typed_) throw;
      PrintNote(fmt::format("({})", e.what()));
      return false;
    }
  }

  void Answer(const std::string& text) {
    messages_.push_back(NewMessage("user", text));
    std::string answer;
    const RunStatistics before = model_.statistics();
    const bool answered = Try([&] {
      const GenerateResult result = Generate(&answer);
      PrintText("\n");
      NoteEnd(result);
    });
    const RunStatistics run = model_.statistics() - before;
    PrintSpeed(run, common_);
    PrintExperts(model_, run, common_);
    if (!answered || answer.empty()) {
      messages_.erase(messages_.size() - 1);
    } else {
      messages_.push_back(NewMessage("assistant", answer));
    }
  }

  GenerateResult Generate(std::string* answer) {
    const std::vector<int32_t> prompt =
        tokenizer_.Encode(template_.Render(messages_, chat_));
    if (static_cast<int64_t>(prompt.size()) > session_.context()) {
      Fail(ErrorKind::kUserInput,
           "the conversation has {} tokens, but the context is limited to {}: "
           "/reset begins anew",
           prompt.size(), session_.context());
    }
    interrupts_.Take();  // one of before is not meant
    return session_.Generate(
        prompt, options_.generate,
        [&](std::string_view piece) {
          *answer += piece;
          PrintAnswer(piece);
        },
        [this] { return interrupts_.Take(); });
  }

  // How fast it came, and what cut it short.
  void NoteEnd(const GenerateResult& result) const {
    std::string cut;
    if (result.reason == FinishReason::kLength) {
      cut = result.tokens == options_.generate.max_tokens
                ? fmt::format("; cut at --max-tokens {}", result.tokens)
                : fmt::format(
                      "; the context of {} tokens is full: /reset begins anew",
                      session_.context());
    }
    // The first token is of the prompt's time.
    const double seconds = std::max(result.decode_seconds, 1e-9);
    const std::string speed =
        result.tokens > 1 && !common_.verbose  // which tells it, too
            ? fmt::format(" at {:.1f} a second",
                          static_cast<double>(result.tokens - 1) / seconds)
            : "";
    Note(fmt::format("{} tokens{}{}", result.tokens, speed, cut));
  }

  const ChatArguments& options_;
  const CommonOptions& common_;
  const ChatOptions chat_;
  const ChatTemplate template_;
  const Tokenizer tokenizer_;
  const Model model_;
  GenerateSession session_;
  const bool typed_;
  const bool notes_;
  Interrupts interrupts_;  // not before all is loaded
  std::unique_ptr<LineReader> reader_ = NewLineReader(&interrupts_);
  OrderedJson messages_ = OrderedJson::array();
};

void Run(const ChatArguments& options, const CommonOptions& common) {
  if (!options.prompt_only) CheckModelFolder(options.model);
  if (!options.messages_file.empty()) return AnswerFile(options, common);
  if (common.json) {
    Fail(ErrorKind::kUserInput, "--json needs --messages FILE");
  }
  Conversation(options, common).Run();
}

}  // namespace

void AddChat(CLI::App& app, CommonOptions* common) {
  CLI::App* command = app.add_subcommand("chat", "talk with a model");
  auto options = std::make_shared<ChatArguments>();
  ExpectModel(command->add_option("model", options->model, "model folder"));
  command->add_option("--system", options->system, "system message");
  CLI::Option* messages = command->add_option(
      "--messages", options->messages_file,
      "JSON file with a conversation to answer: a list of messages, or an "
      "object with \"messages\" and \"tools\"");
  command
      ->add_flag("--prompt-only", options->prompt_only,
                 "print the prompt of --messages, do not run the model")
      ->needs(messages);
  command->add_option("--template", options->chat_template,
                      "file with the chat template, or the name of one of the "
                      "model's (default: \"tool_use\" for tools, or "
                      "\"default\")");
  command->add_option("--template-args", options->template_arguments,
                      "JSON object with further variables of the template, "
                      "such as {\"enable_thinking\": false}");
  ExpectWhole(
      command
          ->add_option("--context", options->context,
                       "tokens of the conversation at most; the model may have "
                       "a lower limit")
          ->capture_default_str(),
      1);
  AddGenerateOptions(command, &options->generate);
  AddRunOptions(command, &options->load);
  AddVerbose(command, common);
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([command, options, common] {
    TakeModelsSampling(*command, options->model, &options->generate);
    Run(*options, *common);
  });
}

}  // namespace mobe
