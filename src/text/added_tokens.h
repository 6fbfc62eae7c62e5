// Tokens that are looked for in the text before it is split into pieces:
// "<|im_end|>" and the like.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "text/token_trie.h"

namespace mobe {

struct AddedToken {
  int32_t id;
  std::string content;
  bool single_word;  // only where no word character is next to it
  bool lstrip;       // takes the white space before it
  bool rstrip;       // takes the white space behind it
  bool normalized;   // looked for, normalized, in the normalized text
  bool special;
};

class AddedTokens {
 public:
  using Normalize = std::function<std::string(std::string_view)>;

  // Reads "added_tokens" of a tokenizer.json (null: none). Tokens that are
  // also in `vocab` must have the same id there; the others must have the ids
  // that the library gives them, which takes no notice of the file's: the
  // next ones after the vocabulary.
  AddedTokens(const Json& array,
              const std::unordered_map<std::string, int32_t>& vocab,
              Normalize normalize, const std::string& where);

  // A part of a text: a token (then `text` is empty) or normalized text.
  struct Part {
    int32_t token;  // -1: text
    std::string text;
  };
  // Splits well-formed UTF-8: first at the tokens that are not `normalized`,
  // then what is between them, normalized, at the others.
  std::vector<Part> Split(std::string_view text) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  void Cut(const TokenTrie& trie, std::string_view text,
           const std::function<void(int32_t, std::string_view)>& emit) const;

  Normalize normalize_;
  std::vector<AddedToken> tokens_;
  // Values are indices of tokens_.
  TokenTrie raw_;
  TokenTrie normalized_;
};

}  // namespace mobe
