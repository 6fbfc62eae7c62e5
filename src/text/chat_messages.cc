#include "text/chat_messages.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace mobe {
namespace {

OrderedJson Parsed(const std::string& arguments, const std::string& where) {
  try {
    return ParseOrderedJson(arguments, where);
  } catch (const Error& e) {
    Fail(ErrorKind::kUserInput, "{}", e.what());
  }
}

bool IsNothing(const OrderedJson& value) {
  return value.is_null() || value == OrderedJson("");
}

// A call is {"function": {"name": ..., "arguments": ...}}, or what is in it.
void ParseArguments(const std::string& where, OrderedJson* call) {
  constexpr const char* kKey = "arguments";
  if (!call->is_object()) return;
  const auto function = call->find("function");
  if (function != call->end() && function->is_object()) {
    call = &*function;
  } else if (!call->contains(kKey)) {
    return;
  }
  OrderedJson& arguments = (*call)[kKey];
  if (IsNothing(arguments)) {
    arguments = OrderedJson::object();
  } else if (arguments.is_string()) {
    arguments = Parsed(arguments.get_ref<const std::string&>(), where);
  }
}

constexpr const char* kReasoning[] = {"reasoning", "reasoning_content",
                                      "thinking"};

}  // namespace

OrderedJson WithParsedArguments(OrderedJson messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto calls = messages[i].find("tool_calls");
    if (calls == messages[i].end() || !calls->is_array()) continue;
    for (size_t k = 0; k < calls->size(); ++k) {
      ParseArguments(
          fmt::format("messages[{}].tool_calls[{}]: arguments", i, k),
          &(*calls)[k]);
    }
  }
  return messages;
}

OrderedJson WithReasoning(OrderedJson messages,
                          const std::function<bool(std::string_view)>& reads) {
  for (OrderedJson& message : messages) {
    const auto given = [&](const char* name) {
      return message.contains(name) && !message[name].is_null();
    };
    const auto source = std::ranges::find_if(kReasoning, given);
    if (source == std::end(kReasoning)) continue;
    const bool arrives = std::ranges::any_of(kReasoning, [&](const char* name) {
      return given(name) && reads(name);
    });
    if (arrives) continue;
    const OrderedJson thoughts = message[*source];
    for (const char* name : kReasoning) {
      if (reads(name)) message[name] = thoughts;
    }
  }
  return messages;
}

}  // namespace mobe
