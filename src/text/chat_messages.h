// A conversation in OpenAI's form, as chat templates want it.
#pragma once

#include <functional>
#include <string_view>

#include "base/ordered_json.h"

namespace mobe {

// `messages`, a list of objects, with the arguments of tool calls as objects:
// in OpenAI's API they are JSON in a string, which most templates would write
// as JSON once more. None, null and "" become {}. As vLLM does it. Fails with
// kUserInput at what is no JSON.
OrderedJson WithParsedArguments(OrderedJson messages);

// `messages` with the thoughts of an answer under the names that the template
// reads. "reasoning", "reasoning_content" and "thinking" are one thing, and
// would vanish where the template reads another one than the message has.
// `reads` tells whether it reads a name.
OrderedJson WithReasoning(OrderedJson messages,
                          const std::function<bool(std::string_view)>& reads);

}  // namespace mobe
