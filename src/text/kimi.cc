#include "text/kimi.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/unicode.h"
#include "text/fields.h"

namespace mobe {
namespace {

constexpr int32_t kSpecialTokens = 256;

std::string Pattern() {
  const std::string before = R"([^\r\n\p{L}\p{N}]?)";
  const std::string upper = R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]])";
  const std::string lower = R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]])";
  const std::string ending = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?";
  const std::string alternatives[] = {
      R"([\p{Han}]+)",
      // Words; capitals after small letters begin another one.
      before + upper + "*" + lower + "+" + ending,
      before + upper + "+" + lower + "*" + ending,
      R"(\p{N}{1,3})",
      R"( ?[^\s\p{L}\p{N}]+[\r\n]*)",
      R"(\s*[\r\n]+)",
      // White space, but for the last one before a word, which belongs to it.
      R"(\s+(?!\S))",
      R"(\s+)",
  };
  return fmt::format("{}", fmt::join(alternatives, "|"));
}

// Members that a named token leaves out are false, as in transformers.
Json SpecialToken(const Json& names, int32_t id, const std::string& where) {
  Json token = {{"content", fmt::format("<|reserved_token_{}|>", id)},
                {"single_word", false},
                {"lstrip", false},
                {"rstrip", false},
                {"normalized", false},
                {"special", true}};
  const Json& named = MemberOrNull(names, std::to_string(id).c_str(), where);
  if (!named.is_null()) {
    token["special"] = false;
    token["content"] = StringMember(named, "content", where);
    token.update(named);
  }
  token["id"] = static_cast<uint32_t>(id);
  return token;
}

// Python's str.isspace.
bool IsPythonSpace(char32_t c) {
  return IsWhiteSpace(c) || (c >= 0x1c && c <= 0x1f);
}

}  // namespace

Json KimiPipeline(const Json& config, int32_t first_special,
                  const std::string& where) {
  const Json& type = MemberOrNull(config, "tokenizer_class", where);
  if (!type.is_string() ||
      type.get_ref<const std::string&>() != "TikTokenTokenizer") {
    Fail(ErrorKind::kUnsupported,
         "{}: beside a tiktoken.model, only the \"tokenizer_class\" "
         "\"TikTokenTokenizer\" (Kimi) is supported, not {}",
         where, Excerpt(type));
  }
  const std::string here = where + ": added_tokens_decoder";
  const Json& given = MemberOrNull(config, "added_tokens_decoder", where);
  const Json& names = given.is_null() ? Json::object() : given;
  Json tokens = Json::array();
  size_t named = 0;
  for (int32_t i = 0; i < kSpecialTokens; ++i) {
    const int32_t id = first_special + i;
    tokens.push_back(SpecialToken(names, id, here));
    named += names.count(std::to_string(id));
  }
  if (named != names.size()) {
    Fail(ErrorKind::kUnsupported,
         "{}: only ids from {} to {}, the {} behind tiktoken.model, are "
         "supported",
         here, first_special, first_special + kSpecialTokens - 1,
         kSpecialTokens);
  }
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", Pattern()}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  const Json bytes = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  return {
      {"added_tokens", tokens},
      {"pre_tokenizer",
       {{"type", "Sequence"}, {"pretokenizers", Json::array({split, bytes})}}}};
}

std::vector<std::string_view> KimiChunks(std::string_view text) {
  constexpr int64_t kMaxCharacters = 400'000;
  constexpr int64_t kMaxRun = 25'000;
  std::vector<std::string_view> chunks;
  size_t begin = 0;
  size_t i = 0;
  int64_t characters = 0;  // in the 400,000
  int64_t run = 0;
  bool run_is_space = false;
  while (i < text.size()) {
    const Character c = FirstCharacter(text.substr(i));
    const bool is_space = IsPythonSpace(c.value);
    run = is_space == run_is_space ? run + 1 : 1;
    run_is_space = is_space;
    const bool block_ends = characters == kMaxCharacters;
    if (block_ends || run > kMaxRun) {
      chunks.push_back(text.substr(begin, i - begin));
      begin = i;
      run = 1;
      if (block_ends) characters = 0;
    }
    ++characters;
    i += c.size;
  }
  if (begin < text.size()) chunks.push_back(text.substr(begin));
  return chunks;
}

}  // namespace mobe
