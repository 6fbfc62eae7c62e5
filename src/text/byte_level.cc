#include "text/byte_level.h"

#include <array>

#include "base/unicode.h"

namespace mobe {
namespace {

constexpr char32_t kAlphabetEnd = 0x144;

constexpr bool StandsForItself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
}

struct Alphabet {
  std::array<char32_t, 256> characters{};
  std::array<int16_t, kAlphabetEnd> bytes{};  // -1: not in the alphabet
};

constexpr Alphabet MakeAlphabet() {
  Alphabet result;
  result.bytes.fill(-1);
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t c =
        StandsForItself(byte) ? static_cast<char32_t>(byte) : next++;
    result.characters[byte] = c;
    result.bytes[c] = static_cast<int16_t>(byte);
  }
  return result;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

char32_t ByteLevelCharacter(uint8_t byte) { return kAlphabet.characters[byte]; }

std::string ToByteLevel(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) {
    AppendUtf8(ByteLevelCharacter(static_cast<uint8_t>(byte)), out);
  }
  return out;
}

std::string FromByteLevel(std::string_view token) {
  std::string out;
  for (std::string_view rest = token; !rest.empty();) {
    const Character c = FirstCharacter(rest);
    rest.remove_prefix(c.size);
    if (c.value >= kAlphabetEnd || kAlphabet.bytes[c.value] < 0) {
      return std::string(token);
    }
    out.push_back(static_cast<char>(kAlphabet.bytes[c.value]));
  }
  return out;
}

}  // namespace mobe
