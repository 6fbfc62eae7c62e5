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
#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/generate_options.h"
#include "cli/line_reader.h"
#include "cli/run_options.h"
#include "cli/stop_signals.h"
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

// Reads a list of messages, or an object with "messages" and perhaps "tools".
OrderedJson ReadMessages(const std::string& file, ChatOptions* chat) {
  OrderedJson json = ParseOrderedJson(ReadTextFile(file), file);
  if (json.is_array()) return json;
  if (!json.is_object() || !json.contains("messages")) {
    Fail(ErrorKind::kUserInput,
         "{}: expected a list of messages, or an object with \"messages\" and "
         "perhaps \"tools\"",
         file);
  }
  chat->tools = json.value("tools", OrderedJson());
  return json["messages"];
}

void AnswerFile(const ChatArguments& options, const CommonOptions& common) {
  ChatOptions chat = ReadChatOptions(options);
  OrderedJson messages = ReadMessages(options.messages_file, &chat);
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
}

// --- A conversation that is typed, or piped line by line.

constexpr const char* kHelp =
    "/reset        begin anew, with the same system message\n"
    "/system TEXT  set the system message; without TEXT: none\n"
    "/help         this\n"
    "/quit         leave, as Ctrl-D does\n"
    "A line that ends in \\ goes on in the next one. Ctrl-C stops an answer.\n";

class Conversation {
 public:
  Conversation(const ChatArguments& options, const CommonOptions& common)
      : options_(options),
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
      if (typed_) PrintText(text.empty() ? "> " : ". ");
      std::string line;
      const LineReader::Outcome outcome = reader_.Read(&line);
      if (outcome == LineReader::Outcome::kLine) {
        const bool more = line.ends_with('\\');
        if (more) line.back() = '\n';
        text += line;
        if (!more) return text;
        interrupted = false;
        continue;
      }
      if (typed_) PrintText("\n");
      if (outcome == LineReader::Outcome::kEnd && !text.empty()) return text;
      if (outcome == LineReader::Outcome::kEnd || !typed_ || interrupted) {
        return std::nullopt;
      }
      interrupted = true;
      text.clear();
      PrintNote("(Ctrl-C again, Ctrl-D or /quit leaves)");
    }
  }

  // Whether to go on.
  bool Command(const std::string& line) {
    const size_t end = std::min(line.find(' '), line.size());
    const std::string name = line.substr(0, end);
    if (name == "/quit") return false;
    if (name == "/help") {
      fmt::print(stderr, "{}", kHelp);
    } else if (name == "/reset") {
      while (messages_.size() > (BeginsWithSystem(messages_) ? 1 : 0)) {
        messages_.erase(messages_.size() - 1);
      }
    } else if (name == "/system") {
      const size_t text = line.find_first_not_of(" \t", end);
      SetSystem(text == std::string::npos ? "" : line.substr(text), &messages_);
    } else {
      PrintNote("(" + name +
                " is no command; /help lists them. To say it, put a blank "
                "before it.)");
    }
    return true;
  }

  // Typed, a failure is told, and the conversation is as before; piped, it ends
  // the program.
  void Answer(const std::string& text) {
    messages_.push_back(NewMessage("user", text));
    std::string answer;
    try {
      const GenerateResult result = Generate(&answer);
      PrintText("\n");
      if (result.reason == FinishReason::kLength) NoteLength(result);
    } catch (const Error& e) {
      if (!typed_) throw;
      messages_.erase(messages_.size() - 1);
      PrintNote(fmt::format("({})", e.what()));
      return;
    }
    if (answer.empty()) {
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

  void NoteLength(const GenerateResult& result) const {
    if (result.tokens == options_.generate.max_tokens) {
      Note(fmt::format("cut at --max-tokens {}", result.tokens));
    } else {
      Note(fmt::format("the context of {} tokens is full: /reset begins anew",
                       session_.context()));
    }
  }

  const ChatArguments& options_;
  const ChatOptions chat_;
  const ChatTemplate template_;
  const Tokenizer tokenizer_;
  const Model model_;
  GenerateSession session_;
  const bool typed_;
  const bool notes_;
  Interrupts interrupts_;  // not before all is loaded
  LineReader reader_{&interrupts_};
  OrderedJson messages_ = OrderedJson::array();
};

void Run(const ChatArguments& options, const CommonOptions& common) {
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
  command->add_option("model", options->model, "model folder")->required();
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
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([command, options, common] {
    TakeModelsSampling(*command, options->model, &options->generate);
    Run(*options, *common);
  });
}

}  // namespace mobe
