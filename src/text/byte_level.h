// The alphabet of byte-level BPE: each of the 256 bytes is written as one
// printable character, so that a vocabulary is plain text ("Ġthe" is " the").
// From GPT-2 (Radford et al. 2019).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mobe {

// The character that stands for a byte: the printable ones of Latin-1 stand for
// themselves, the other 68 are U+0100 to U+0143 in order.
char32_t ByteLevelCharacter(uint8_t byte);

// `bytes` in the alphabet, in UTF-8.
std::string ToByteLevel(std::string_view bytes);

// The bytes that `token` (UTF-8) stands for. A token with any character outside
// the alphabet stands for its own bytes, as in Hugging Face's decoder.
std::string FromByteLevel(std::string_view token);

}  // namespace mobe
