#include "eval/python_text.h"

#include <unicode/locid.h>
#include <unicode/unistr.h>

#include "base/unicode.h"

namespace mobe {

bool IsPythonSpace(char32_t c) {
  return IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F);
}

std::string PythonRStrip(std::string_view text) {
  while (!text.empty()) {
    const Character last = LastCharacter(text);
    if (!IsPythonSpace(last.value)) break;
    text.remove_suffix(last.size);
  }
  return std::string(text);
}

std::string PythonStrip(std::string_view text) {
  while (!text.empty()) {
    const Character first = FirstCharacter(text);
    if (!IsPythonSpace(first.value)) break;
    text.remove_prefix(first.size);
  }
  return PythonRStrip(text);
}

std::string PythonCapitalize(std::string_view text) {
  if (text.empty()) return {};
  const size_t first = FirstCharacter(text).size;
  const auto part = [](std::string_view piece) {
    return icu::UnicodeString::fromUTF8(
        {piece.data(), static_cast<int32_t>(piece.size())});
  };
  icu::UnicodeString large = part(text.substr(0, first));
  large.toTitle(nullptr, icu::Locale::getRoot());
  large += part(text.substr(first)).toLower(icu::Locale::getRoot());
  std::string capitalized;
  return large.toUTF8String(capitalized);
}

std::string Replaced(std::string_view text, std::string_view what,
                     std::string_view with) {
  std::string replaced;
  for (size_t begin = 0;;) {
    const size_t at = text.find(what, begin);
    replaced += text.substr(begin, at - begin);
    if (at == std::string_view::npos) return replaced;
    replaced += with;
    begin = at + what.size();
  }
}

}  // namespace mobe
