// A model's chat template: from messages to the prompt, as transformers'
// apply_chat_template makes it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/ordered_json.h"
#include "jinja/jinja.h"

namespace mobe {

struct ChatOptions {
  OrderedJson tools = nullptr;  // a list of tool definitions; null: none
  // Whether the prompt ends where the assistant's answer begins.
  bool add_generation_prompt = true;
  // Further variables of the template, such as enable_thinking; an object.
  OrderedJson arguments = OrderedJson::object();
};

class ChatTemplate {
 public:
  // The template in a model's folder: chat_template.jinja, or chat_template of
  // tokenizer_config.json, which may be a list of named ones: "default", and
  // "tool_use" for conversations with tools. Beside the former that one is
  // additional_chat_templates/tool_use.jinja. Fails with kMissing when there is
  // none, as in most base models.
  static ChatTemplate Load(const std::filesystem::path& folder);
  // The same with the template in `file`, and the special tokens of `folder`.
  static ChatTemplate LoadFile(const std::filesystem::path& file,
                               const std::filesystem::path& folder);

  // The text for `messages`, a list of objects with role and content. To be
  // tokenized without adding anything and with special tokens recognised: as
  // with transformers, that holds of those in a message's content, too. Fails
  // with kUserInput for what is no such list and when the template refuses it.
  std::string Render(const OrderedJson& messages,
                     const ChatOptions& options) const;

 private:
  ChatTemplate(std::string_view source, std::string where,
               OrderedJson special_tokens)
      : default_(jinja::Template(source, std::move(where))),
        special_tokens_(std::move(special_tokens)) {}
  explicit ChatTemplate(OrderedJson special_tokens)
      : special_tokens_(std::move(special_tokens)) {}

  std::optional<jinja::Template> default_;
  std::optional<jinja::Template> tool_use_;
  OrderedJson special_tokens_;  // name -> text, such as bos_token
};

}  // namespace mobe
