#include "text/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "text/byte_level.h"
#include "text/fields.h"
#include "text/unicode.h"

namespace mobe {
namespace {

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
  const std::string file = std::filesystem::is_directory(path)
                               ? (path / "tokenizer.json").string()
                               : path.string();
  return {ReadTokenizerJson(file), file};
}

Tokenizer::Tokenizer(const Json& json, const std::string& source)
    : bpe_(MemberOrNull(json, "model", source), source + ": model"),
      added_(MemberOrNull(json, "added_tokens", source), bpe_.vocab(),
             MakeNormalizer(MemberOrNull(json, "normalizer", source),
                            source + ": normalizer"),
             source + ": added_tokens"),
      pre_tokenizer_(MemberOrNull(json, "pre_tokenizer", source),
                     source + ": pre_tokenizer") {
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
    pre_tokenizer_.Split(part.text, [&](std::string_view piece) {
      bpe_.Encode(piece, scratch, ids);
    });
  }
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
