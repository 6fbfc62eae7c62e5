// What the tokenizer needs of Unicode, by ICU: UTF-8, NFC, character classes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mobe {

// `text` with every ill-formed part replaced by U+FFFD, one for each "maximal
// subpart" (The Unicode Standard, 3.9), as Rust's from_utf8_lossy and Python's
// errors="replace" do. Strings beyond 256 MiB are refused by callers: ICU
// counts in 32 bits.
std::string ReplaceInvalidUtf8(std::string_view text);

// The bytes before the first ill-formed part of `text`; all when it has none.
size_t ValidUtf8Length(std::string_view text);

// The length of `text` without an unfinished character at its end: one whose
// bytes so far are right and that more bytes could complete.
size_t CompleteUtf8Length(std::string_view text);

// Normalization form C of well-formed UTF-8 as `tokenizers` 0.22 has it: by
// Unicode 9.0. Combining marks of later versions are not put in order.
std::string Nfc(std::string_view text);

// `\s` and `\w` of Rust's regex crate (UTS #18, annex C).
bool IsWhiteSpace(char32_t c);
bool IsWord(char32_t c);

// Characters of well-formed UTF-8; of a part of it, those that begin there.
int64_t CountCharacters(std::string_view text);

// The first and last characters of well-formed, non-empty UTF-8, and the
// number of bytes of each.
struct Character {
  char32_t value;
  size_t size;
};
Character FirstCharacter(std::string_view text);
Character LastCharacter(std::string_view text);

// Appends `c` in UTF-8.
void AppendUtf8(char32_t c, std::string& out);

}  // namespace mobe
