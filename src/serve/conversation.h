// From a conversation in OpenAI's form to a prompt, and how its answer is read:
// what chat completions and Anthropic's messages share.
#pragma once

#include <string>

#include "base/ordered_json.h"
#include "serve/message_parser.h"
#include "serve/sampling.h"
#include "serve/service.h"

namespace mobe {

struct Conversation {
  std::string prompt;
  const ToolStyle* style = nullptr;  // null: calls are not looked for
  bool thinks = false;

  MessageParser Parser() const { return {style, thinks, prompt}; }
};

// Renders the model's template. `options.tools` is null where there are none,
// or none may be called. Throws ApiError (400) for what the template refuses.
Conversation RenderConversation(const Service& service,
                                const OrderedJson& messages,
                                const ChatOptions& options);

// Puts the prompt into a plan, and bounds the answer by `max_tokens`, if it is
// not negative, and by the context.
void PlanAnswer(const Service& service, const Conversation& conversation,
                int64_t max_tokens, TextPlan* plan);

}  // namespace mobe
