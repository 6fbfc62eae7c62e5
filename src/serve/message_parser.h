// Takes the text of an answer apart: thoughts, what is said, and calls of
// tools.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/chat_template.h"

namespace mobe {

struct ToolCall {
  std::string name;
  std::string arguments;  // JSON, as the model wrote it
};

// A piece of an answer of one kind; a call comes whole.
struct MessagePart {
  enum class Kind { kThoughts, kContent, kCall } kind;
  std::string text = {};
  ToolCall call = {};
};

// How a model writes calls of tools: JSON between marks. A row of the table in
// message_parser.cc.
struct ToolStyle;

// The style whose marks the template has; null: none is known, and calls stay
// text.
const ToolStyle* ToolStyleOf(const ChatTemplate& chat_template);

// Parts come as soon as it is sure what they are. What looks like a call and is
// none stays content: nothing is lost but marks, and white space around them.
class MessageParser {
 public:
  // Calls are looked for if there is a style. Thoughts are between <think> and
  // </think> if `thinks`; they have begun already where the prompt ends with
  // the first of these.
  MessageParser(const ToolStyle* style, bool thinks, std::string_view prompt);

  std::vector<MessagePart> Push(std::string_view piece);
  // The rest, when the answer has ended.
  std::vector<MessagePart> Finish();

 private:
  using Parts = std::vector<MessagePart>;

  void Advance(bool last, Parts* parts);
  bool AdvanceCall(bool last, Parts* parts);
  enum class Next { kUnknown, kMark, kEnd };  // what follows a text
  void Emit(std::string_view text, Next next, Parts* parts);

  const ToolStyle* style_;
  std::vector<std::string_view> marks_;
  std::string held_;
  std::string space_;  // at the end of what was given
  bool thinking_ = false;
  bool in_call_ = false;
  bool behind_mark_ = false;
};

}  // namespace mobe
