// Chat templates: any bytes as a template are refused, or render a conversation
// with tools, thoughts and hostile content, or fail to; in bounded time.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "check.h"
#include "jinja/jinja.h"

namespace mobe {
namespace {

const OrderedJson& Variables() {
  static const OrderedJson variables = ParseOrderedJson(R"({
    "messages": [
      {"role": "system", "content": "Be brief."},
      {"role": "user", "content": "{{ x }}{% if %}\u0000 \u00e9 </think>"},
      {"role": "assistant", "content": null, "tool_calls": [{"type": "function",
       "function": {"name": "f", "arguments": {"a": [1, -2.5, true, null]}}}]},
      {"role": "tool", "content": "1"},
      {"role": "assistant", "content": "<think>\nno\n</think>\n\nYes."}],
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "bos_token": "<s>", "add_generation_prompt": true})",
                                                        "fuzz");
  return variables;
}

}  // namespace
}  // namespace mobe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mobe::AllowRefusal([&] {
    const mobe::jinja::Template chat_template(
        {reinterpret_cast<const char*>(data), size}, "fuzz");
    chat_template.Render(mobe::Variables());
  });
  return 0;
}
