#include "serve/message_parser.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/first_mark.h"

namespace mobe {
namespace {

constexpr std::string_view kThink = "<think>";
constexpr std::string_view kEndThink = "</think>";
constexpr std::string_view kSpace = " \t\r\n";

std::string_view Trimmed(std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(kSpace), text.size());
  text.remove_prefix(begin);
  return text.substr(0, text.find_last_not_of(kSpace) + 1);
}

bool IsJsonObject(std::string_view text) {
  try {
    return ParseJson(text, "").is_object();
  } catch (const Error&) {
    return false;
  }
}

using Call = std::optional<ToolCall>;

// {"name": ..., "arguments": {...}}
Call ReadNamed(std::string_view text) {
  Json json;
  try {
    json = ParseJson(text, "");
  } catch (const Error&) {
    return std::nullopt;
  }
  if (!json.is_object() || !json.value("name", Json()).is_string()) {
    return std::nullopt;
  }
  const Json given = json.value("arguments", Json::object());
  std::string arguments =
      given.is_string() ? given.get<std::string>() : given.dump();
  if (Trimmed(arguments).empty()) arguments = "{}";
  if (!IsJsonObject(arguments)) return std::nullopt;
  return ToolCall{json["name"], std::move(arguments)};
}

// The name, `separator`, the arguments.
Call ReadSeparated(std::string_view text, std::string_view separator) {
  const size_t at = text.find(separator);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view name = Trimmed(text.substr(0, at));
  const std::string_view arguments =
      Trimmed(text.substr(at + separator.size()));
  if (name.empty() || !IsJsonObject(arguments)) return std::nullopt;
  return ToolCall{std::string(name), std::string(arguments)};
}

// V3 and R1: function, separator, the name, a line break, and the arguments as
// a block of code. V3.1: the name, separator, the arguments.
Call ReadDeepSeek(std::string_view text) {
  constexpr std::string_view kSeparator = "<｜tool▁sep｜>";
  constexpr std::string_view kFunction = "function<｜tool▁sep｜>";
  constexpr std::string_view kBlock = "\n```json\n";
  if (!text.starts_with(kFunction)) return ReadSeparated(text, kSeparator);
  text = Trimmed(text.substr(kFunction.size()));
  if (text.ends_with("```")) text.remove_suffix(3);
  return ReadSeparated(text, kBlock);
}

// functions.NAME:NUMBER, separator, the arguments.
Call ReadKimi(std::string_view text) {
  Call call = ReadSeparated(text, "<|tool_call_argument_begin|>");
  if (!call) return call;
  constexpr std::string_view kFunctions = "functions.";
  std::string& name = call->name;
  if (name.starts_with(kFunctions)) name.erase(0, kFunctions.size());
  name.erase(std::min(name.rfind(':'), name.size()));
  return call;
}

}  // namespace

struct ToolStyle {
  const char* begin;  // of a call
  const char* end;
  Call (*read)(std::string_view text);  // what is between
  // Around all calls; "": none.
  const char* section_begin;
  const char* section_end;
};

namespace {

constexpr ToolStyle kToolStyles[] = {
    // Qwen, Hermes, Ling
    {"<tool_call>", "</tool_call>", ReadNamed, "", ""},
    {"<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", ReadDeepSeek,
     "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"},
    {"<|tool_call_begin|>", "<|tool_call_end|>", ReadKimi,
     "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"},
};

}  // namespace

const ToolStyle* ToolStyleOf(const ChatTemplate& chat_template) {
  for (const ToolStyle& style : kToolStyles) {
    if (chat_template.Mentions(style.begin)) return &style;
  }
  return nullptr;
}

MessageParser::MessageParser(const ToolStyle* style, bool thinks,
                             std::string_view prompt)
    : style_(style) {
  if (thinks) {
    marks_ = {kThink, kEndThink};
    thinking_ = behind_mark_ = Trimmed(prompt).ends_with(kThink);
  }
  if (style == nullptr) return;
  for (const std::string_view mark :
       {style->begin, style->section_begin, style->section_end}) {
    if (!mark.empty()) marks_.push_back(mark);
  }
}

std::vector<MessagePart> MessageParser::Push(std::string_view piece) {
  Parts parts;
  held_ += piece;
  Advance(/*last=*/false, &parts);
  return parts;
}

std::vector<MessagePart> MessageParser::Finish() {
  Parts parts;
  Advance(/*last=*/true, &parts);
  return parts;
}

// White space behind a mark is left out, and so is what is before one: it is
// held until something else follows, or the end.
void MessageParser::Emit(std::string_view text, Next next, Parts* parts) {
  std::string all = std::exchange(space_, "") + std::string(text);
  if (behind_mark_) {
    all.erase(0, std::min(all.find_first_not_of(kSpace), all.size()));
  }
  if (next != Next::kEnd) {
    const size_t end = all.find_last_not_of(kSpace) + 1;
    if (next == Next::kUnknown) space_ = all.substr(end);
    all.erase(end);
  }
  if (all.empty()) return;
  behind_mark_ = false;
  parts->push_back(
      {thinking_ ? MessagePart::Kind::kThoughts : MessagePart::Kind::kContent,
       std::move(all)});
}

// Whether the call was whole.
bool MessageParser::AdvanceCall(bool last, Parts* parts) {
  const size_t end = held_.find(style_->end);
  if (end == std::string::npos && !last) return false;
  const std::string text = held_.substr(0, end);
  held_.erase(0, end == std::string::npos
                     ? end
                     : end + std::string_view(style_->end).size());
  in_call_ = false;
  if (Call call = style_->read(Trimmed(text))) {
    space_.clear();
    behind_mark_ = true;
    parts->push_back({MessagePart::Kind::kCall, "", std::move(*call)});
  } else {
    Emit(style_->begin + text + (end == std::string::npos ? "" : style_->end),
         Next::kUnknown, parts);
  }
  return true;
}

void MessageParser::Advance(bool last, Parts* parts) {
  for (;;) {
    if (in_call_ && !AdvanceCall(last, parts)) return;
    const auto [at, found, unsure] = FindFirstMark(held_, marks_);
    if (found.empty()) {
      const size_t sure = last ? held_.size() : held_.size() - unsure;
      Emit(std::string_view(held_).substr(0, sure),
           last ? Next::kEnd : Next::kUnknown, parts);
      held_.erase(0, sure);
      return;
    }
    in_call_ = style_ != nullptr && found == style_->begin;
    // Before what may be no call nothing is left out yet.
    Emit(std::string_view(held_).substr(0, at),
         in_call_ ? Next::kUnknown : Next::kMark, parts);
    held_.erase(0, at + found.size());
    if (in_call_) continue;
    behind_mark_ = true;
    if (found == kThink || found == kEndThink) thinking_ = found == kThink;
  }
}

}  // namespace mobe
