// Conversations: any bytes as a file of messages are refused, or rendered, or
// refused by the template, in bounded time and with a message of one line.
#include <string>

#include "base/ordered_json.h"
#include "base/text_file.h"
#include "check.h"
#include "jinja/jinja.h"
#include "text/chat_messages.h"

namespace mobe {
namespace {

// What templates do with messages.
constexpr std::string_view kTemplate =
    "{{ messages | tojson }}{% for m in messages %}{{ m.role }}{{ m['content'] "
    "}}{% if m.content is string %}{{ m.content.split('a') | join('b') }}"
    "{{ m.content | trim | upper }}{% endif %}{{ m.thinking }}"
    "{% for c in m.tool_calls or [] %}{% set f = c.function or c %}{{ f.name }}"
    "{% if f.arguments is mapping %}{% for k, v in f.arguments | dictsort %}"
    "{{ k }}={{ v if v is string else v | tojson }}{% endfor %}{% endif %}"
    "{% endfor %}{{ '%s' % m.role }}{{ '{:>5}'.format(loop.index) }}"
    "{% endfor %}";

void Render(std::string bytes) {
  static const jinja::Template chat_template(kTemplate, "fuzz");
  const std::string text = DecodeText(std::move(bytes), "fuzz");
  OrderedJson messages = ParseOrderedJson(text, "fuzz");
  if (!messages.is_array()) return;
  for (const OrderedJson& message : messages) {
    if (!message.is_object()) return;
  }
  messages = WithReasoning(
      WithParsedArguments(std::move(messages)),
      [](std::string_view name) { return chat_template.Reads(name); });
  chat_template.Render({{"messages", messages}});
}

}  // namespace
}  // namespace mobe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mobe::AllowRefusal([&] {
    mobe::Render({reinterpret_cast<const char*>(data), size});
  });
  return 0;
}
