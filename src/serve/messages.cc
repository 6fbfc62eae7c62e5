// POST /v1/messages, in Anthropic's form.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "serve/conversation.h"
#include "serve/handlers.h"
#include "serve/wire.h"

namespace mobe {
namespace {

bool IsTextPart(const OrderedJson& part) {
  return part.is_object() && part.value("type", OrderedJson()) == "text" &&
         part.value("text", OrderedJson()).is_string();
}

// The text of "content": a text, or a list of parts, all of them texts.
std::string TextOfContent(const OrderedJson& content, const char* where) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array() || !std::ranges::all_of(content, IsTextPart)) {
    throw ApiError(400, fmt::format("{}: expected a text or parts of type "
                                    "\"text\"",
                                    where));
  }
  std::string text;
  for (const OrderedJson& part : content) {
    text += part["text"].get_ref<const std::string&>();
  }
  return text;
}

const OrderedJson& PartMember(const OrderedJson& part, const char* name) {
  const auto found = part.find(name);
  if (found != part.end()) return *found;
  throw ApiError(400, OneLine(fmt::format(
                          "messages: a part of type {} has no {}",
                          Excerpt(part.value("type", OrderedJson())), name)));
}

// A message of Anthropic's as those of OpenAI's that say the same: results of
// tools are messages of their own there.
void AppendMessage(const OrderedJson& message, OrderedJson* to) {
  const OrderedJson content = message.value("content", OrderedJson(""));
  OrderedJson converted = {{"role", message["role"]}, {"content", ""}};
  if (content.is_string()) {
    converted["content"] = content;
    to->push_back(std::move(converted));
    return;
  }
  if (!content.is_array()) {
    throw ApiError(400, "messages: content: expected a text or a list");
  }
  std::string text;
  bool says = false;
  for (const OrderedJson& part : content) {
    if (!part.is_object()) {
      throw ApiError(400, "messages: content: expected a list of objects");
    }
    const auto& type = PartMember(part, "type");
    if (type == "text") {
      text += TextOfContent(OrderedJson::array({part}), "messages");
      says = true;
    } else if (type == "thinking") {
      converted["reasoning_content"] = PartMember(part, "thinking");
      says = true;
    } else if (type == "tool_use") {
      converted["tool_calls"].push_back(
          {{"id", PartMember(part, "id")},
           {"type", "function"},
           {"function",
            {{"name", PartMember(part, "name")},
             {"arguments", PartMember(part, "input")}}}});
      says = true;
    } else if (type == "tool_result") {
      to->push_back(
          {{"role", "tool"},
           {"tool_call_id", PartMember(part, "tool_use_id")},
           {"content", TextOfContent(part.value("content", OrderedJson("")),
                                     "messages: tool_result: content")}});
    } else if (type != "redacted_thinking") {
      throw ApiError(400, fmt::format("messages: a part of type {}; expected "
                                      "text, thinking, tool_use or tool_result",
                                      Excerpt(type)));
    }
  }
  converted["content"] = std::move(text);
  if (says) to->push_back(std::move(converted));
}

OrderedJson ConvertTools(const OrderedJson& tools) {
  OrderedJson converted = OrderedJson::array();
  for (const OrderedJson& tool : tools) {
    converted.push_back(
        {{"type", "function"},
         {"function",
          {{"name", tool["name"]},
           {"description", tool.value("description", OrderedJson(""))},
           {"parameters",
            tool.value("input_schema", OrderedJson::object())}}}});
  }
  return converted;
}

Conversation ReadConversation(const Service& service, const std::string& schema,
                              const std::string& body_text, Json* body) {
  *body = ParseBody(schema, body_text);
  const OrderedJson ordered = ParseOrderedBody(body_text);
  OrderedJson messages = OrderedJson::array();
  if (body->contains("system")) {
    messages.push_back(
        {{"role", "system"},
         {"content", TextOfContent(ordered["system"], "system")}});
  }
  for (const OrderedJson& message : ordered["messages"]) {
    AppendMessage(message, &messages);
  }
  const std::string choice =
      body->value("tool_choice", Json::object()).value("type", "auto");
  if (choice != "auto" && choice != "none") {
    throw ApiError(400,
                   "tool_choice: expected \"auto\" or \"none\", as no "
                   "model can be forced to call a tool here");
  }
  ChatOptions chat;
  if (body->contains("tools") && !ordered["tools"].empty() &&
      choice == "auto") {
    chat.tools = ConvertTools(ordered["tools"]);
  }
  return RenderConversation(service, messages, chat);
}

class MessagesForm {
 public:
  static constexpr ApiForm kForm = ApiForm::kAnthropic;

  MessagesForm(const Service& service, std::shared_ptr<Generation> generation,
               const Conversation& conversation)
      : name_(service.options().name),
        generation_(std::move(generation)),
        parser_(conversation.Parser()) {}

  std::string Begin() const {
    return SseEvent({{"type", "message_start"}, {"message", Message()}},
                    "message_start");
  }

  std::string Piece(const TextPiece& piece) {
    std::string events;
    const auto add = [&](std::vector<MessagePart> parts) {
      for (MessagePart& part : parts) events += Part(std::move(part));
    };
    add(parser_.Push(piece.piece));
    if (piece.event == nullptr) add(parser_.Finish());
    return events;
  }

  std::string End() {
    std::string events = CloseBlock();
    events += SseEvent({{"type", "message_delta"},
                        {"delta", StopJson()},
                        {"usage", UsageOf(generation_->counts())}},
                       "message_delta");
    return events + SseEvent({{"type", "message_stop"}}, "message_stop");
  }

  Json Whole() const {
    Json message = Message();
    message["content"] = blocks_;
    message.update(StopJson());
    return message;
  }

 private:
  static Json UsageOf(const TokenCounts& counts) {
    return {{"input_tokens", counts.prompt - counts.cached},
            {"cache_read_input_tokens", counts.cached},
            {"output_tokens", counts.sampled}};
  }
  Json Message() const {
    return {{"id", id_},
            {"type", "message"},
            {"role", "assistant"},
            {"model", name_},
            {"content", Json::array()},
            {"stop_reason", nullptr},
            {"stop_sequence", nullptr},
            {"usage", UsageOf(generation_->counts())}};
  }
  Json StopJson() const {
    const std::string& matched = generation_->matched(0);
    const char* reason = "end_turn";
    if (generation_->reason(0) == FinishReason::kLength) {
      reason = "max_tokens";
    } else if (!matched.empty()) {
      reason = "stop_sequence";
    } else if (called_) {
      reason = "tool_use";
    }
    return {{"stop_reason", reason},
            {"stop_sequence", matched.empty() ? Json() : Json(matched)}};
  }

  std::string Part(MessagePart part) {
    if (part.kind == MessagePart::Kind::kCall) {
      called_ = true;
      Json block = {{"type", "tool_use"},
                    {"id", NewId("toolu_")},
                    {"name", part.call.name},
                    {"input", Json::object()}};
      std::string events = OpenBlock(block);
      blocks_.back()["input"] = ParseJson(part.call.arguments, "arguments");
      return events + Delta({{"type", "input_json_delta"},
                             {"partial_json", part.call.arguments}});
    }
    const bool thinks = part.kind == MessagePart::Kind::kThoughts;
    const char* key = thinks ? "thinking" : "text";
    std::string events;
    if (!open_ || blocks_.back()["type"] != key) {
      events = OpenBlock({{"type", key}, {key, ""}});
    }
    blocks_.back()[key].get_ref<std::string&>() += part.text;
    return events + Delta({{"type", thinks ? "thinking_delta" : "text_delta"},
                           {key, std::move(part.text)}});
  }

  std::string OpenBlock(Json block) {
    std::string events = CloseBlock();
    blocks_.push_back(block);
    open_ = true;
    return events + SseEvent({{"type", "content_block_start"},
                              {"index", blocks_.size() - 1},
                              {"content_block", std::move(block)}},
                             "content_block_start");
  }
  std::string Delta(Json delta) const {
    return SseEvent({{"type", "content_block_delta"},
                     {"index", blocks_.size() - 1},
                     {"delta", std::move(delta)}},
                    "content_block_delta");
  }
  std::string CloseBlock() {
    if (!std::exchange(open_, false)) return "";
    return SseEvent(
        {{"type", "content_block_stop"}, {"index", blocks_.size() - 1}},
        "content_block_stop");
  }

  const std::string id_ = NewId("msg_");
  const std::string name_;
  const std::shared_ptr<Generation> generation_;
  MessageParser parser_;
  Json blocks_ = Json::array();
  bool open_ = false;
  bool called_ = false;
};

}  // namespace

ApiReply AnswerMessages(Service* service, const ApiRequest& request) {
  Json body;
  const Conversation conversation =
      ReadConversation(*service, "MessagesRequest", request.body, &body);
  TextPlan plan = ReadSampling(*service, body);
  PlanAnswer(*service, conversation, body["max_tokens"].get<int64_t>(), &plan);
  auto generation = std::make_shared<Generation>(
      service, request.client, std::vector<TextPlan>{std::move(plan)});
  auto form =
      std::make_shared<MessagesForm>(*service, generation, conversation);
  return AnswerReply(std::move(generation), std::move(form),
                     body.value("stream", false));
}

ApiReply CountMessageTokens(Service* service, const ApiRequest& request) {
  Json body;
  const Conversation conversation =
      ReadConversation(*service, "CountRequest", request.body, &body);
  return JsonReply({{"input_tokens",
                     service->tokenizer().Encode(conversation.prompt).size()}});
}

}  // namespace mobe
