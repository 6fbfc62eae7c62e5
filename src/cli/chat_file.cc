#include "cli/chat_file.h"

#include "base/error.h"
#include "base/file.h"
#include "base/text_file.h"
#include "cli/output_file.h"

namespace mobe {
namespace {

constexpr OutputKind kChatOutput = {"a conversation of mobe chat", 0,
                                    "{\n \"messages\": [", false};

}  // namespace

ChatFile ReadChatFile(const std::string& file) {
  OrderedJson json = ParseOrderedJson(ReadTextFile(file), file);
  if (json.is_array()) return {std::move(json), nullptr};
  if (!json.is_object() || !json.contains("messages")) {
    Fail(ErrorKind::kUserInput,
         "{}: expected a list of messages, or an object with \"messages\" and "
         "perhaps \"tools\"",
         file);
  }
  return {json["messages"], json.value("tools", OrderedJson())};
}

void WriteChatFile(const std::string& file, const std::string& model,
                   const OrderedJson& messages) {
  CheckOutputFile({file}, kChatOutput, {model}, {});
  const OrderedJson chat = {{"messages", messages}};
  // An answer that was stopped may end within a character.
  WriteFileAtomically(
      file,
      chat.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

}  // namespace mobe
