// Text to token ids and back, as Hugging Face's `tokenizers` does it, from its
// file tokenizer.json, or as Kimi's code does it, from tiktoken.model.
// Byte-level BPE only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"

namespace mobe {

// Immutable once loaded; all const members may run on several threads.
class Tokenizer {
 public:
  // Reads a tokenizer.json, or a model folder: its tokenizer.json or, without
  // one, its tiktoken.model (see text/kimi.h), with what tokenizer_config.json
  // says. Fails with kMissing, kCorruptFile, or kUnsupported, which names the
  // component and its value. Not used: "truncation" and "padding", which belong
  // to the caller.
  static Tokenizer Load(const std::filesystem::path& path);

  // The file of a model folder that holds its vocabulary.
  static std::filesystem::path FileIn(const std::filesystem::path& folder);

  // The ids of a text, as encode(text, add_special_tokens=False) gives them:
  // affixes() are not put around it, but added tokens written in the text are
  // recognised. Ill-formed UTF-8 is read as U+FFFD (see ReplaceInvalidUtf8).
  // Fails with kUserInput above kMaxTextBytes, and with kUnsupported when the
  // file's patterns take too long on this text.
  std::vector<int32_t> Encode(std::string_view text) const;
  static constexpr size_t kMaxTextBytes = 256u << 20;

  // What encode(text, add_special_tokens=True) puts around a text.
  const SpecialAffixes& affixes() const { return affixes_; }

  // The ids of a prompt: the text's, with affixes().before before them. Fails
  // as Encode does.
  std::vector<int32_t> EncodePrompt(std::string_view text) const;

  // The token that ends a text, by tokenizer_config.json.
  std::optional<int32_t> eos() const { return eos_; }

  // The text of ids, in well-formed UTF-8: what is not becomes U+FFFD. Ids
  // that no token has are left out, as are special ones if `skip_special`.
  std::string Decode(std::span<const int32_t> ids,
                     bool skip_special = false) const;

  // The bytes that a token adds to the text, which may be a part of a UTF-8
  // character; none for an id that no token has.
  const std::string& TokenBytes(int32_t id) const;

  // The highest id plus one.
  int64_t vocab_size() const { return static_cast<int64_t>(bytes_.size()); }
  // The id of a token as written in the file: "Ġthe", "<|im_end|>".
  std::optional<int32_t> TokenId(std::string_view token) const;
  bool IsSpecial(int32_t id) const;

 private:
  // Parts of a text that are encoded one by one.
  using Chunks = std::vector<std::string_view> (*)(std::string_view text);

  // `json` is a tokenizer.json; its "model" is not looked at.
  Tokenizer(Bpe bpe, const Json& json, const std::string& source,
            Chunks chunks);
  static Tokenizer LoadJson(const std::string& file);
  static Tokenizer LoadKimi(const std::filesystem::path& folder);

  Bpe bpe_;
  AddedTokens added_;
  PreTokenizer pre_tokenizer_;
  Chunks chunks_;
  SpecialAffixes affixes_;
  std::optional<int32_t> eos_;
  std::vector<std::string> bytes_;  // by id
  std::vector<bool> special_;       // by id
};

}  // namespace mobe
