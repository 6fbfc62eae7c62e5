// A conversation in a file, in the form of OpenAI's API.
#pragma once

#include <string>

#include "text/chat_template.h"

namespace mobe {

struct ChatFile {
  OrderedJson messages;  // a list, of what the template has to understand
  OrderedJson tools;     // null: none
};

// A list of messages, or an object with "messages" and perhaps "tools".
ChatFile ReadChatFile(const std::string& file);

// Writes {"messages": ...} over nothing but another of these, and not into the
// model's folder.
void WriteChatFile(const std::string& file, const std::string& model,
                   const OrderedJson& messages);

}  // namespace mobe
