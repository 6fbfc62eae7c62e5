#include "text/tiktoken.h"

#include <charconv>
#include <cstdint>
#include <optional>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "text/fields.h"

namespace mobe {
namespace {

int Base64Digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

// Padded, and with no bit set in the padding: one text for given bytes.
std::optional<std::string> DecodeBase64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text.substr(0, text.size() - padding)) {
    const int digit = Base64Digit(c);
    if (digit < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<char>(bits >> count & 0xff));
    bits &= (1u << count) - 1;
  }
  if (bits != 0) return std::nullopt;
  return bytes;
}

// The next line of `file`, which loses it.
std::string_view TakeLine(std::string_view& file) {
  const size_t end = file.find('\n');
  std::string_view line = file.substr(0, end);
  file.remove_prefix(end == std::string_view::npos ? file.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::optional<int32_t> ParseRank(std::string_view text) {
  int32_t rank;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, rank);
  if (error != std::errc() || stop != end || rank < 0 || rank > kMaxTokenId) {
    return std::nullopt;
  }
  return rank;
}

}  // namespace

std::vector<std::string> ReadTiktoken(std::string_view file,
                                      const std::string& where) {
  std::vector<std::string> tokens;  // empty: no line of this rank so far
  std::unordered_set<std::string> seen;
  for (size_t number = 1; !file.empty(); ++number) {
    const std::string_view line = TakeLine(file);
    if (line.empty()) continue;
    const auto fail = [&](std::string_view what) {
      Fail(ErrorKind::kCorruptFile, "{}: line {}: {}", where, number, what);
    };
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) {
      fail("expected a token in base64, a space and its rank");
    }
    const auto token = DecodeBase64(line.substr(0, space));
    if (!token || token->empty()) fail("the token is not valid base64");
    if (token->size() > kMaxRankedToken) {
      fail(fmt::format("the token has {} bytes; at most {} are supported",
                       token->size(), kMaxRankedToken));
    }
    const auto rank = ParseRank(line.substr(space + 1));
    if (!rank) {
      fail(
          fmt::format("the rank must be an integer from 0 to {}", kMaxTokenId));
    }
    if (!seen.insert(*token).second) fail("the token was there before");
    const auto index = static_cast<size_t>(*rank);
    if (index >= tokens.size()) tokens.resize(index + 1);
    if (!tokens[index].empty()) {
      fail(fmt::format("rank {} was there before", index));
    }
    tokens[index] = *token;
  }
  for (size_t rank = 0; rank < tokens.size(); ++rank) {
    if (tokens[rank].empty()) {
      Fail(ErrorKind::kCorruptFile,
           "{}: no token has rank {}, though one has rank {}", where, rank,
           tokens.size() - 1);
    }
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (!seen.contains(std::string(1, static_cast<char>(byte)))) {
      Fail(ErrorKind::kCorruptFile,
           "{}: byte {:#04x} is no token; all 256 bytes must be", where, byte);
    }
  }
  return tokens;
}

}  // namespace mobe
