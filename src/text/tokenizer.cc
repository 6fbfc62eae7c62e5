#include "text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/unicode.h"
#include "text/byte_level.h"
#include "text/fields.h"
#include "text/kimi.h"
#include "text/special_tokens.h"
#include "text/tiktoken.h"

namespace mobe {
namespace {

constexpr const char* kTiktokenFile = "tiktoken.model";
constexpr const char* kConfigFile = "tokenizer_config.json";

// Whether the "normalizer" is NFC: null, NFC or a Sequence of them.
bool ReadNormalizer(const Json& json, const std::string& where) {
  if (json.is_null()) return false;
  const std::string& type = StringMember(json, "type", where);
  if (type == "NFC") return true;
  if (type != "Sequence") {
    Fail(ErrorKind::kUnsupported,
         "{}: type \"{}\" is not supported; NFC and Sequence are", where, type);
  }
  bool nfc = false;
  for (const Json& part : ArrayMember(json, "normalizers", where)) {
    nfc |= ReadNormalizer(part, where);
  }
  return nfc;
}

AddedTokens::Normalize MakeNormalizer(const Json& json,
                                      const std::string& where) {
  if (ReadNormalizer(json, where)) return Nfc;
  return [](std::string_view text) { return std::string(text); };
}

// The "decoder" must be ByteLevel, or a Sequence of it alone.
void CheckDecoder(const Json& json, const std::string& where) {
  const Json& type = MemberOrNull(json, "type", where);
  if (type == Json("ByteLevel")) return;
  if (type == Json("Sequence")) {
    const Json& parts = ArrayMember(json, "decoders", where);
    if (parts.size() == 1) return CheckDecoder(parts[0], where);
  }
  Fail(ErrorKind::kUnsupported, "{}: {} is not supported; only ByteLevel is",
       where, json.dump());
}

Json ReadTokenizerJson(const std::string& path) {
  // The largest published ones have 35 MB.
  constexpr uint64_t kMaxFileBytes = 100u << 20;
  Json json = ParseJson(ReadSmallFile(path, kMaxFileBytes), path);
  const Json& version = MemberOrNull(json, "version", path);
  if (!version.is_null() && version != Json("1.0")) {
    Fail(ErrorKind::kUnsupported,
         "{}: tokenizer version {} is not supported; \"1.0\" is", path,
         version.dump());
  }
  CheckDecoder(MemberOrNull(json, "decoder", path), path + ": decoder");
  return json;
}

}  // namespace

Tokenizer Tokenizer::Load(const std::filesystem::path& path) {
  if (!IsFolder(path)) return LoadJson(path.string());
  const std::filesystem::path file = FileIn(path);
  const std::filesystem::path config_file = path / kConfigFile;
  const Json config = ReadJsonObject(config_file);
  const bool is_kimi = file.filename() == kTiktokenFile;
  Tokenizer tokenizer = is_kimi ? LoadKimi(path) : LoadJson(file.string());
  if (!is_kimi && !config.empty()) {
    CorrectAffixes(
        config,
        [&](std::string_view token) { return tokenizer.TokenId(token); },
        config_file.string(), tokenizer.affixes_);
  }
  if (const auto eos = ReadEosToken(path, config)) {
    tokenizer.eos_ = tokenizer.TokenId(*eos);
  }
  return tokenizer;
}

std::filesystem::path Tokenizer::FileIn(const std::filesystem::path& folder) {
  std::filesystem::path json = folder / "tokenizer.json";
  std::filesystem::path tiktoken = folder / kTiktokenFile;
  return !IsNamed(json) && IsNamed(tiktoken) ? tiktoken : json;
}

Tokenizer Tokenizer::LoadJson(const std::string& file) {
  const Json json = ReadTokenizerJson(file);
  return {Bpe(MemberOrNull(json, "model", file), file + ": model"), json, file,
          [](std::string_view text) { return std::vector{text}; }};
}

Tokenizer Tokenizer::LoadKimi(const std::filesystem::path& folder) {
  // Twice the largest published one. A hostile file of this size takes some
  // seconds to read and 200 MB.
  constexpr uint64_t kMaxFileBytes = 8u << 20;
  const std::string vocabulary = (folder / kTiktokenFile).string();
  const std::vector<std::string> tokens =
      ReadTiktoken(ReadSmallFile(vocabulary, kMaxFileBytes), vocabulary);
  const std::string config = (folder / kConfigFile).string();
  const Json pipeline =
      KimiPipeline(ParseJson(ReadSmallFile(config), config),
                   static_cast<int32_t>(tokens.size()), config);
  return {Bpe(tokens), pipeline, config, KimiChunks};
}

Tokenizer::Tokenizer(Bpe bpe, const Json& json, const std::string& source,
                     Chunks chunks)
    : bpe_(std::move(bpe)),
      added_(MemberOrNull(json, "added_tokens", source), bpe_.vocab(),
             MakeNormalizer(MemberOrNull(json, "normalizer", source),
                            source + ": normalizer"),
             source + ": added_tokens"),
      pre_tokenizer_(MemberOrNull(json, "pre_tokenizer", source),
                     source + ": pre_tokenizer"),
      chunks_(chunks),
      affixes_(ReadPostProcessor(MemberOrNull(json, "post_processor", source),
                                 source + ": post_processor")) {
  int32_t max_id = -1;
  for (const auto& [token, id] : bpe_.vocab()) max_id = std::max(max_id, id);
  for (const auto& token : added_.tokens()) max_id = std::max(max_id, token.id);
  bytes_.resize(static_cast<size_t>(max_id) + 1);
  special_.resize(bytes_.size());
  std::vector<bool> used(bytes_.size());
  for (const auto& [token, id] : bpe_.vocab()) {
    if (used[id]) {
      Fail(ErrorKind::kCorruptFile, "{}: model: two tokens have id {}", source,
           id);
    }
    used[id] = true;
    bytes_[id] = FromByteLevel(token);
  }
  for (const auto& token : added_.tokens()) {
    if (used[token.id] && !bpe_.vocab().contains(token.content)) {
      Fail(ErrorKind::kCorruptFile, "{}: added_tokens: two tokens have id {}",
           source, token.id);
    }
    bytes_[token.id] = FromByteLevel(token.content);
    special_[token.id] = token.special;
  }
  for (const auto* affix : {&affixes_.before, &affixes_.behind}) {
    for (const int32_t id : *affix) {
      if (id <= max_id) continue;
      Fail(ErrorKind::kCorruptFile,
           "{}: post_processor: no token has id {}; the last one is {}", source,
           id, max_id);
    }
  }
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text) const {
  if (text.size() > kMaxTextBytes) {
    Fail(ErrorKind::kUserInput,
         "a text of {} bytes is too long for one call of the tokenizer; split "
         "it into parts of at most {}",
         text.size(), kMaxTextBytes);
  }
  std::vector<int32_t> ids;
  Bpe::Scratch scratch;
  for (const auto& part : added_.Split(ReplaceInvalidUtf8(text))) {
    if (part.token >= 0) {
      ids.push_back(part.token);
      continue;
    }
    for (const std::string_view chunk : chunks_(part.text)) {
      pre_tokenizer_.Split(chunk, [&](std::string_view piece) {
        bpe_.Encode(piece, scratch, ids);
      });
    }
  }
  return ids;
}

std::vector<int32_t> Tokenizer::EncodePrompt(std::string_view text) const {
  std::vector<int32_t> ids = affixes_.before;
  const std::vector<int32_t> of_text = Encode(text);
  ids.insert(ids.end(), of_text.begin(), of_text.end());
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids,
                              bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!skip_special || !IsSpecial(id)) bytes += TokenBytes(id);
  }
  return ReplaceInvalidUtf8(bytes);
}

const std::string& Tokenizer::TokenBytes(int32_t id) const {
  static const std::string no_bytes;
  return id >= 0 && id < vocab_size() ? bytes_[id] : no_bytes;
}

std::optional<int32_t> Tokenizer::TokenId(std::string_view token) const {
  const auto it = bpe_.vocab().find(std::string(token));
  if (it != bpe_.vocab().end()) return it->second;
  for (const auto& added : added_.tokens()) {
    if (added.content == token) return added.id;
  }
  return std::nullopt;
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && id < vocab_size() && special_[id];
}

}  // namespace mobe
