#include "text/chat_template.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// tokenizer_config.json may list 200,000 added tokens.
constexpr uint64_t kMaxConfigBytes = 100u << 20;

// An object; empty when there is no such file.
OrderedJson ReadObject(const fs::path& file) {
  if (!fs::exists(file)) return OrderedJson::object();
  OrderedJson json =
      ParseOrderedJson(ReadSmallFile(file, kMaxConfigBytes), file.string());
  if (!json.is_object()) {
    Fail(ErrorKind::kCorruptFile, "{}: expected a JSON object, found {}",
         file.string(), json.type_name());
  }
  return json;
}

// A token is its text, or an object that has it as "content".
OrderedJson TokenText(const OrderedJson& token) {
  if (token.is_string()) return token;
  if (token.is_object() && token.contains("content") &&
      token["content"].is_string()) {
    return token["content"];
  }
  return nullptr;
}

// What transformers gives to templates: PreTrainedTokenizer.special_tokens_map,
// of tokenizer_config.json and, for what that lacks, special_tokens_map.json.
OrderedJson ReadSpecialTokens(const fs::path& folder,
                              const OrderedJson& config) {
  const OrderedJson map = ReadObject(folder / "special_tokens_map.json");
  OrderedJson tokens = OrderedJson::object();
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token",
                           "pad_token", "cls_token", "mask_token"}) {
    const OrderedJson& source = config.contains(name) ? config : map;
    OrderedJson text = TokenText(source.value(name, OrderedJson()));
    if (!text.is_null()) tokens[name] = std::move(text);
  }
  const char* const additional = "additional_special_tokens";
  const OrderedJson& source = config.contains(additional) ? config : map;
  OrderedJson texts = OrderedJson::array();
  for (const OrderedJson& token : source.value(additional, OrderedJson())) {
    texts.push_back(TokenText(token));
  }
  if (!texts.empty()) tokens[additional] = std::move(texts);
  return tokens;
}

bool IsListOfObjects(const OrderedJson& json) {
  return json.is_array() && std::ranges::all_of(json, [](const auto& item) {
           return item.is_object();
         });
}

}  // namespace

ChatTemplate ChatTemplate::LoadFile(const fs::path& file,
                                    const fs::path& folder) {
  const OrderedJson config = ReadObject(folder / "tokenizer_config.json");
  return {ReadSmallFile(file, jinja::kMaxTemplateBytes), file.string(),
          ReadSpecialTokens(folder, config)};
}

ChatTemplate ChatTemplate::Load(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    Fail(ErrorKind::kMissing, "{}: no such folder", folder.string());
  }
  const fs::path jinja_file = folder / "chat_template.jinja";
  if (fs::exists(jinja_file)) return LoadFile(jinja_file, folder);
  const fs::path config_file = folder / "tokenizer_config.json";
  const OrderedJson config = ReadObject(config_file);
  const std::string where = config_file.string();
  const OrderedJson source = config.value("chat_template", OrderedJson());
  if (source.is_null()) {
    Fail(ErrorKind::kMissing,
         "{} has no chat template, neither chat_template.jinja nor "
         "chat_template in tokenizer_config.json, as is usual for a base "
         "model; --template names a file with one",
         folder.string());
  }
  OrderedJson tokens = ReadSpecialTokens(folder, config);
  if (source.is_string()) {
    return {source.get_ref<const std::string&>(), where, std::move(tokens)};
  }
  ChatTemplate result(std::move(tokens));
  for (const OrderedJson& entry : source) {
    const bool good = entry.is_object() && entry.contains("name") &&
                      entry["name"].is_string() && entry.contains("template") &&
                      entry["template"].is_string();
    if (!good) {
      Fail(ErrorKind::kCorruptFile,
           "{}: chat_template must be a text or a list of objects with name "
           "and template",
           where);
    }
    const auto& name = entry["name"].get_ref<const std::string&>();
    const auto& text = entry["template"].get_ref<const std::string&>();
    if (name == "default") result.default_.emplace(text, where);
    if (name == "tool_use") result.tool_use_.emplace(text, where);
  }
  if (!result.default_ && !result.tool_use_) {
    Fail(ErrorKind::kMissing,
         "{}: none of the chat templates has the name \"default\"", where);
  }
  return result;
}

std::string ChatTemplate::Render(const OrderedJson& messages,
                                 const ChatOptions& options) const {
  if (!IsListOfObjects(messages) || messages.empty()) {
    Fail(ErrorKind::kUserInput,
         "the messages must be a list, not empty, of objects with role and "
         "content");
  }
  if (!options.tools.is_null() && !IsListOfObjects(options.tools)) {
    Fail(ErrorKind::kUserInput, "the tools must be a list of objects");
  }
  OrderedJson variables = special_tokens_;
  variables["messages"] = messages;
  variables["tools"] = options.tools;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = options.add_generation_prompt;
  for (const auto& [name, value] : options.arguments.items()) {
    variables[name] = value;
  }
  const bool with_tools = !options.tools.is_null() && tool_use_;
  if (!with_tools && !default_) {
    Fail(ErrorKind::kUserInput,
         "the model has a chat template for conversations with tools only");
  }
  return (with_tools ? *tool_use_ : *default_).Render(variables);
}

}  // namespace mobe
