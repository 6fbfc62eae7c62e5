// POST /v1/chat/completions, in OpenAI's form.
#include <algorithm>
#include <memory>
#include <ranges>
#include <utility>
#include <vector>

#include "serve/conversation.h"
#include "serve/handlers.h"
#include "serve/wire.h"

namespace mobe {
namespace {

struct ChatFormOptions {
  bool log_probs = false;
  int64_t top = 0;
  bool stream = false;
  bool stream_usage = false;
  bool one_call = false;  // of tools, and no more
};

Json TokenLogProbJson(const Tokenizer& tokenizer, int32_t token,
                      double log_prob) {
  Json bytes = Json::array();
  for (const char byte : tokenizer.TokenBytes(token)) {
    bytes.push_back(static_cast<unsigned char>(byte));
  }
  return {{"token", TokenName(tokenizer, token)},
          {"logprob", log_prob},
          {"bytes", std::move(bytes)}};
}

Json CallJson(const ToolCall& call) {
  return {{"id", NewId("call_")},
          {"type", "function"},
          {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

class ChatForm {
 public:
  static constexpr ApiForm kForm = ApiForm::kOpenAi;

  ChatForm(const Service& service, std::shared_ptr<Generation> generation,
           const Conversation& conversation, const ChatFormOptions& options)
      : tokenizer_(service.tokenizer()),
        answer_("chatcmpl-", service.options().name),
        generation_(std::move(generation)),
        options_(options) {
    for (size_t i = 0; i < generation_->texts(); ++i) {
      choices_.push_back({conversation.Parser()});
    }
  }

  std::string Begin() {
    std::string events;
    for (size_t i = 0; i < choices_.size(); ++i) {
      events += DeltaEvent(i, {{"role", "assistant"}, {"content", ""}});
    }
    return events;
  }

  std::string Piece(const TextPiece& piece) {
    Choice& choice = choices_[piece.text];
    if (options_.log_probs && piece.event != nullptr) {
      AddLogProbs(*piece.event, &choice);
    }
    std::string events;
    const auto add = [&](std::vector<MessagePart> parts) {
      for (MessagePart& part : parts) events += Part(piece.text, part);
    };
    add(choice.parser.Push(piece.piece));
    if (piece.event != nullptr) return events;
    add(choice.parser.Finish());
    return events + DeltaEvent(piece.text, Json::object(), Reason(piece.text));
  }

  std::string End() const {
    const TokenCounts counts = generation_->counts();
    return answer_.End("chat.completion.chunk",
                       options_.stream_usage ? &counts : nullptr);
  }

  Json Whole() {
    Json choices = Json::array();
    for (size_t i = 0; i < choices_.size(); ++i) {
      Choice& choice = choices_[i];
      Json message = {{"role", "assistant"}, {"content", choice.content}};
      if (choice.content.empty() && !choice.calls.empty()) {
        message["content"] = nullptr;
      }
      if (!choice.thoughts.empty()) {
        message["reasoning_content"] = choice.thoughts;
      }
      if (!choice.calls.empty()) message["tool_calls"] = choice.calls;
      choices.push_back({{"index", i},
                         {"message", std::move(message)},
                         {"logprobs", TakeLogProbs(&choice)},
                         {"finish_reason", Reason(i)}});
    }
    return answer_.Whole("chat.completion", std::move(choices),
                         generation_->counts());
  }

 private:
  struct Choice {
    MessageParser parser;
    std::string content = {};
    std::string thoughts = {};
    Json calls = Json::array();
    Json log_probs = Json::array();
  };

  void AddLogProbs(const EngineEvent& event, Choice* choice) {
    if (event.token < 0) return;
    Json json =
        TokenLogProbJson(tokenizer_, event.token, event.log_probs.log_prob);
    json["top_logprobs"] = Json::array();
    for (const TokenLogProb& top :
         event.log_probs.top | std::views::take(options_.top)) {
      json["top_logprobs"].push_back(
          TokenLogProbJson(tokenizer_, top.token, top.log_prob));
    }
    choice->log_probs.push_back(std::move(json));
  }
  // Those since the last call.
  Json TakeLogProbs(Choice* choice) const {
    if (!options_.log_probs) return nullptr;
    return {{"content", std::exchange(choice->log_probs, Json::array())}};
  }

  std::string Part(size_t index, const MessagePart& part) {
    Choice& choice = choices_[index];
    switch (part.kind) {
      case MessagePart::Kind::kContent:
        choice.content += part.text;
        return DeltaEvent(index, {{"content", part.text}});
      case MessagePart::Kind::kThoughts:
        choice.thoughts += part.text;
        return DeltaEvent(index, {{"reasoning_content", part.text}});
      case MessagePart::Kind::kCall: {
        if (options_.one_call && !choice.calls.empty()) return "";
        Json call = CallJson(part.call);
        choice.calls.push_back(call);
        call["index"] = choice.calls.size() - 1;
        return DeltaEvent(index,
                          {{"tool_calls", Json::array({std::move(call)})}});
      }
    }
    return "";
  }

  std::string Reason(size_t index) const {
    const FinishReason reason = generation_->reason(index);
    if (reason == FinishReason::kStop && !choices_[index].calls.empty()) {
      return "tool_calls";
    }
    return OpenAiReason(reason);
  }

  std::string DeltaEvent(size_t index, Json delta, Json reason = nullptr) {
    if (!options_.stream) return "";
    return SseEvent(answer_.With("chat.completion.chunk",
                                 {{{"index", index},
                                   {"delta", std::move(delta)},
                                   {"logprobs", TakeLogProbs(&choices_[index])},
                                   {"finish_reason", std::move(reason)}}}));
  }
  const Tokenizer& tokenizer_;
  const OpenAiAnswer answer_;
  const std::shared_ptr<Generation> generation_;
  const ChatFormOptions options_;
  std::vector<Choice> choices_;
};

void RefuseUnsupported(const Json& body) {
  if (body.contains("functions")) {
    throw ApiError(400, "functions: an old form; expected tools");
  }
  const Json format = body.value("response_format", Json::object());
  if (format.value("type", "text") != "text") {
    throw ApiError(400,
                   "response_format: expected \"text\", as there is no "
                   "grammar that would hold a model to another");
  }
  const Json choice = body.value("tool_choice", Json("auto"));
  if (choice != "auto" && choice != "none") {
    throw ApiError(400,
                   "tool_choice: expected \"auto\" or \"none\", as no "
                   "model can be forced to call a tool here");
  }
}

}  // namespace

ApiReply Chat(Service* service, const ApiRequest& request) {
  const Json body = ParseBody("ChatRequest", request.body);
  RefuseUnsupported(body);
  // Templates write tools and arguments in the order in which they came.
  const OrderedJson ordered = ParseOrderedBody(request.body);
  ChatOptions chat;
  if (body.contains("tools") && !body["tools"].empty() &&
      body.value("tool_choice", Json("auto")) != "none") {
    chat.tools = ordered["tools"];
  }
  chat.add_generation_prompt = body.value("add_generation_prompt", true);
  if (body.contains("chat_template_kwargs")) {
    chat.arguments = ordered["chat_template_kwargs"];
  }
  if (body.contains("reasoning_effort")) {
    chat.arguments["reasoning_effort"] = ordered["reasoning_effort"];
  }
  const Conversation conversation =
      RenderConversation(*service, ordered["messages"], chat);

  ChatFormOptions options;
  options.log_probs = body.value("logprobs", false);
  options.top = options.log_probs ? body.value("top_logprobs", int64_t{0}) : 0;
  options.stream = body.value("stream", false);
  options.stream_usage = body.value("stream_options", Json::object())
                             .value("include_usage", false);
  options.one_call = !body.value("parallel_tool_calls", true);
  TextPlan plan = ReadSampling(*service, body);
  PlanAnswer(*service, conversation,
             body.value("max_completion_tokens",
                        body.value("max_tokens", int64_t{-1})),
             &plan);
  if (options.log_probs) {
    plan.request.log_probs = std::max<int64_t>(options.top, 1);
  }
  std::vector<TextPlan> plans;
  for (int64_t i = 0; i < body.value("n", int64_t{1}); ++i) {
    plans.push_back(WithSeed(plan, i));
  }
  auto generation =
      std::make_shared<Generation>(service, request.client, std::move(plans));
  auto form =
      std::make_shared<ChatForm>(*service, generation, conversation, options);
  return AnswerReply(std::move(generation), std::move(form), options.stream);
}

}  // namespace mobe
