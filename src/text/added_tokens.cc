#include "text/added_tokens.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/unicode.h"
#include "text/fields.h"

namespace mobe {
namespace {

AddedToken ReadToken(const Json& json, const std::string& where) {
  AddedToken token;
  token.content = StringMember(json, "content", where);
  token.id =
      TokenIdValue(MemberOrNull(json, "id", where), token.content, where);
  token.single_word = BoolMember(json, "single_word", where);
  token.lstrip = BoolMember(json, "lstrip", where);
  token.rstrip = BoolMember(json, "rstrip", where);
  token.normalized = BoolMember(json, "normalized", where);
  token.special = BoolMember(json, "special", where);
  return token;
}

bool IsWithinWord(std::string_view text, size_t begin, size_t end) {
  return (begin > 0 && IsWord(LastCharacter(text.substr(0, begin)).value)) ||
         (end < text.size() && IsWord(FirstCharacter(text.substr(end)).value));
}

}  // namespace

AddedTokens::AddedTokens(const Json& array,
                         const std::unordered_map<std::string, int32_t>& vocab,
                         Normalize normalize, const std::string& where)
    : normalize_(std::move(normalize)) {
  if (array.is_null()) return;
  if (!array.is_array()) {
    Fail(ErrorKind::kCorruptFile, "{} must be an array", where);
  }
  std::unordered_set<std::string> seen;
  const auto vocab_size = static_cast<int32_t>(vocab.size());
  int32_t next_id = vocab_size;
  for (const Json& json : array) {
    AddedToken token = ReadToken(json, where);
    if (token.content.empty() || !seen.insert(token.content).second) {
      Fail(ErrorKind::kCorruptFile, "{}: token \"{}\" is {}", where,
           token.content, token.content.empty() ? "empty" : "given twice");
    }
    const auto it = vocab.find(token.content);
    const int32_t expected = it == vocab.end() ? next_id : it->second;
    if (token.id != expected) {
      Fail(ErrorKind::kUnsupported,
           "{}: token \"{}\" has id {}; only {}, the id that Hugging Face's "
           "tokenizers gives it, is supported",
           where, token.content, token.id, expected);
    }
    if (token.id >= vocab_size) next_id = std::max(next_id, token.id + 1);
    tokens_.push_back(std::move(token));
  }
  // Where two normalize to the same text, a special one wins.
  size_t total = 0;
  for (const bool special : {true, false}) {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      const AddedToken& token = tokens_[i];
      if (token.special != special) continue;
      const std::string key =
          token.normalized ? normalize_(token.content) : token.content;
      total += key.size();
      if (key.size() > kMaxTrieKey || total > kMaxTrieKeys) {
        Fail(ErrorKind::kUnsupported,
             "{}: token {} is too long: at most {} bytes for a token and {} "
             "for all are supported",
             where, token.id, kMaxTrieKey, kMaxTrieKeys);
      }
      (token.normalized ? normalized_ : raw_).Add(key, static_cast<int32_t>(i));
    }
  }
}

void AddedTokens::Cut(
    const TokenTrie& trie, std::string_view text,
    const std::function<void(int32_t, std::string_view)>& emit) const {
  size_t done = 0;
  for (auto [begin, end, index] : trie.FindAll(text)) {
    const AddedToken& token = tokens_[index];
    if (token.single_word && IsWithinWord(text, begin, end)) continue;
    while (token.lstrip && begin > done) {
      const Character c = LastCharacter(text.substr(0, begin));
      if (!IsWhiteSpace(c.value)) break;
      begin -= c.size;
    }
    while (token.rstrip && end < text.size()) {
      const Character c = FirstCharacter(text.substr(end));
      if (!IsWhiteSpace(c.value)) break;
      end += c.size;
    }
    // The white space that it is was taken by the token before.
    if (token.lstrip && end <= done) continue;
    if (begin > done) emit(-1, text.substr(done, begin - done));
    emit(token.id, {});
    done = end;
  }
  if (done < text.size()) emit(-1, text.substr(done));
}

std::vector<AddedTokens::Part> AddedTokens::Split(std::string_view text) const {
  std::vector<Part> parts;
  const auto add = [&](int32_t token, std::string_view piece) {
    parts.push_back({token, std::string(piece)});
  };
  Cut(raw_, text, [&](int32_t token, std::string_view piece) {
    if (token >= 0) {
      add(token, {});
    } else {
      Cut(normalized_, normalize_(piece), add);
    }
  });
  return parts;
}

}  // namespace mobe
