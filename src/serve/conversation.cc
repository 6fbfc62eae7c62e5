#include "serve/conversation.h"

#include <algorithm>

#include "base/error.h"
#include "serve/api.h"

namespace mobe {

Conversation RenderConversation(const Service& service,
                                const OrderedJson& messages,
                                const ChatOptions& options) {
  const bool tools = !options.tools.is_null();
  const ChatTemplate& chat_template = service.chat_template(tools);
  Conversation conversation;
  try {
    conversation.prompt = chat_template.Render(messages, options);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUserInput &&
        e.kind() != ErrorKind::kUnsupported) {
      throw;
    }
    throw ApiError(400, e.what());
  }
  if (tools) conversation.style = ToolStyleOf(chat_template);
  conversation.thinks = chat_template.Mentions("</think>");
  return conversation;
}

void PlanAnswer(const Service& service, const Conversation& conversation,
                int64_t max_tokens, TextPlan* plan) {
  EngineRequest& request = plan->request;
  request.prompt = service.tokenizer().Encode(conversation.prompt);
  const int64_t prompt = std::ssize(request.prompt);
  const int64_t room = service.context() - prompt;
  if (room < 1) {
    throw ApiError(
        400, fmt::format("the conversation has {} tokens; expected less than "
                         "{}, the context",
                         prompt, service.context()));
  }
  request.max_tokens = max_tokens < 0 ? room : std::min(max_tokens, room);
  request.prompt_log_probs = request.max_tokens == 0;
  // Marks of calls may be special tokens.
  plan->skip_special = conversation.style == nullptr;
}

}  // namespace mobe
