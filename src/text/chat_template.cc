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
Json ReadObject(const fs::path& file) {
  if (!fs::exists(file)) return Json::object();
  Json json = ParseJson(ReadSmallFile(file, kMaxConfigBytes), file.string());
  if (!json.is_object()) {
    Fail(ErrorKind::kCorruptFile, "{}: expected a JSON object, found {}",
         file.string(), json.type_name());
  }
  return json;
}

// A token is its text, or an object that has it as "content"; null otherwise.
Json TokenText(const Json& token) {
  const Json text = token.is_object() ? token.value("content", Json()) : token;
  return text.is_string() ? text : Json();
}

constexpr const char* kTokenNames[] = {"bos_token", "eos_token", "unk_token",
                                       "sep_token", "pad_token", "cls_token",
                                       "mask_token"};
constexpr const char* kAdditional = "additional_special_tokens";

// What a class of transformers' has where no file names the token.
constexpr struct {
  const char* tokenizer_class;  // or with "Fast" behind
  const char* name;
  const char* text;
} kClassTokens[] = {
    {"LlamaTokenizer", "bos_token", "<s>"},
    {"LlamaTokenizer", "eos_token", "</s>"},
    {"LlamaTokenizer", "unk_token", "<unk>"},
    {"Qwen2Tokenizer", "eos_token", "<|endoftext|>"},
    {"Qwen2Tokenizer", "unk_token", "<|endoftext|>"},
    {"Qwen2Tokenizer", "pad_token", "<|endoftext|>"},
};

void AddTexts(const Json& tokens, const fs::path& folder, OrderedJson* texts) {
  if (!tokens.is_null() && !tokens.is_array()) {
    Fail(ErrorKind::kCorruptFile, "{}: \"{}\" is {}, expected a list of tokens",
         folder.string(), kAdditional, Excerpt(tokens));
  }
  for (const Json& token : tokens) {
    const Json text = TokenText(token);
    if (text.is_null()) {
      Fail(ErrorKind::kCorruptFile, "{}: \"{}\" has {}, expected a token",
           folder.string(), kAdditional, Excerpt(token));
    }
    const auto& bytes = text.get_ref<const std::string&>();
    if (std::ranges::count(*texts, OrderedJson(bytes)) == 0) {
      texts->push_back(bytes);
    }
  }
}

// What transformers gives to templates: PreTrainedTokenizer.special_tokens_map.
// special_tokens_map.json is of older folders: it counts, and then before
// tokenizer_config.json, where the latter lists no added tokens.
OrderedJson ReadSpecialTokens(const fs::path& folder, const Json& config) {
  const Json map = config.contains("added_tokens_decoder")
                       ? Json::object()
                       : ReadObject(folder / "special_tokens_map.json");
  OrderedJson tokens = OrderedJson::object();
  for (const char* name : kTokenNames) {
    const Json& source = map.contains(name) ? map : config;
    const Json text = TokenText(source.value(name, Json()));
    if (!text.is_null()) tokens[name] = text.get_ref<const std::string&>();
  }
  const Json type = config.value("tokenizer_class", Json());
  for (const auto& row : kClassTokens) {
    const std::string name = row.tokenizer_class;
    if (type != Json(name) && type != Json(name + "Fast")) continue;
    if (map.contains(row.name) || config.contains(row.name)) continue;
    tokens[row.name] = row.text;
  }
  OrderedJson texts = OrderedJson::array();
  AddTexts(config.value(kAdditional, Json()), folder, &texts);
  AddTexts(map.value(kAdditional, Json()), folder, &texts);
  if (!texts.empty()) tokens[kAdditional] = std::move(texts);
  const Json extra = config.value("extra_special_tokens", Json());
  if (!extra.is_object()) return tokens;
  for (const auto& [name, token] : extra.items()) {
    const Json text = TokenText(token);
    if (!text.is_null()) tokens[name] = text.get_ref<const std::string&>();
  }
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
  const Json config = ReadObject(folder / "tokenizer_config.json");
  return {ReadSmallFile(file, jinja::kMaxTemplateBytes), file.string(),
          ReadSpecialTokens(folder, config)};
}

ChatTemplate ChatTemplate::Load(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    Fail(ErrorKind::kMissing, "{}: no such folder", folder.string());
  }
  const fs::path jinja_file = folder / "chat_template.jinja";
  if (fs::exists(jinja_file)) {
    ChatTemplate result = LoadFile(jinja_file, folder);
    const fs::path more = folder / "additional_chat_templates/tool_use.jinja";
    if (fs::exists(more)) {
      result.tool_use_.emplace(ReadSmallFile(more, jinja::kMaxTemplateBytes),
                               more.string());
    }
    return result;
  }
  const fs::path config_file = folder / "tokenizer_config.json";
  const Json config = ReadObject(config_file);
  const std::string where = config_file.string();
  const Json source = config.value("chat_template", Json());
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
  for (const Json& entry : source) {
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
