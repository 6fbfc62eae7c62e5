// A model's chat template: from messages to the prompt, as transformers'
// apply_chat_template makes it.
#pragma once

#include <filesystem>
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
  // The template for conversations with or without tools in a model's folder,
  // which has it in the first of these places, as in transformers:
  //   chat_template.jinja, and named ones as additional_chat_templates/*.jinja
  //   chat_template of tokenizer_config.json: a text, or named ones
  //   chat_template of chat_template.json, which processors have
  // Of named ones "tool_use" is for tools, "default" for all. Fails with
  // kMissing when there is none, as in most base models.
  // `which` is a file with another template, or the name of one of the model's;
  // "": none of these.
  static ChatTemplate Load(const std::filesystem::path& folder,
                           const std::string& which, bool with_tools);

  // The text for `messages`, a list of objects with role and content. To be
  // tokenized without adding anything and with special tokens recognised: as
  // with transformers, that holds of those in a message's content, too.
  // Messages are taken as OpenAI's API has them (see chat_messages.h). Fails
  // with kUserInput for what is no such list and when the template refuses it.
  std::string Render(const OrderedJson& messages,
                     const ChatOptions& options) const;

  // Whether the template's text holds this, such as the mark before a call of a
  // tool: then the model was trained to write it.
  bool Mentions(std::string_view text) const {
    return source_.find(text) != std::string::npos;
  }

 private:
  ChatTemplate(std::string source, std::string where,
               OrderedJson special_tokens)
      : source_(std::move(source)),
        template_(source_, std::move(where)),
        special_tokens_(std::move(special_tokens)) {}

  std::string source_;
  jinja::Template template_;
  OrderedJson special_tokens_;  // name -> text, such as bos_token
};

}  // namespace mobe
