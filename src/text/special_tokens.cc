#include "text/special_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

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

// A token is its text, or an object that has it as "content"; null otherwise.
Json TokenText(const Json& token) {
  const Json text = token.is_object() ? token.value("content", Json()) : token;
  return text.is_string() ? text : Json();
}

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

// special_tokens_map.json is of older folders: it counts, and then before
// tokenizer_config.json, where the latter lists no added tokens.
Json ReadMap(const fs::path& folder, const Json& config) {
  return config.contains("added_tokens_decoder")
             ? Json::object()
             : ReadJsonObject(folder / "special_tokens_map.json");
}

// Those with a name of their own.
OrderedJson NamedTokens(const Json& config, const Json& map) {
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
  return tokens;
}

}  // namespace

Json ReadJsonObject(const fs::path& file) {
  if (!IsNamed(file)) return Json::object();
  // tokenizer_config.json may list 200,000 added tokens.
  constexpr uint64_t kMaxConfigBytes = 100u << 20;
  Json json = ParseJson(ReadSmallFile(file, kMaxConfigBytes), file.string());
  if (!json.is_object()) {
    Fail(ErrorKind::kCorruptFile, "{}: expected a JSON object, found {}",
         file.string(), json.type_name());
  }
  return json;
}

OrderedJson ReadSpecialTokens(const fs::path& folder, const Json& config) {
  const Json map = ReadMap(folder, config);
  OrderedJson tokens = NamedTokens(config, map);
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

std::optional<std::string> ReadEosToken(const fs::path& folder,
                                        const Json& config) {
  const OrderedJson tokens = NamedTokens(config, ReadMap(folder, config));
  const auto eos = tokens.find("eos_token");
  if (eos == tokens.end()) return std::nullopt;
  return eos->get<std::string>();
}

}  // namespace mobe
