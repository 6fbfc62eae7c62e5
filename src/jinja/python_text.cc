#include "jinja/python_text.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/unicode.h"

namespace mobe::python {
namespace {

// The character at the beginning or the end, which must exist.
Character At(std::string_view text, bool end) {
  return end ? LastCharacter(text) : FirstCharacter(text);
}

icu::UnicodeString ToIcu(std::string_view text) {
  return icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}

std::string FromIcu(const icu::UnicodeString& text) {
  std::string out;
  text.toUTF8String(out);
  return out;
}

// Length of the white space at the beginning.
size_t LeadingSpace(std::string_view text) {
  return text.size() - Strip(text, Sides::kLeft).size();
}

// Bytes up to the first white space.
size_t LeadingWord(std::string_view text) {
  size_t size = 0;
  while (size < text.size()) {
    const Character c = FirstCharacter(text.substr(size));
    if (IsSpace(c.value)) break;
    size += c.size;
  }
  return size;
}

std::vector<std::string> SplitAtSpace(std::string_view text,
                                      int64_t max_split) {
  std::vector<std::string> parts;
  text = Strip(text, Sides::kLeft);
  while (!text.empty()) {
    const size_t size = static_cast<int64_t>(parts.size()) == max_split
                            ? text.size()
                            : LeadingWord(text);
    parts.emplace_back(text.substr(0, size));
    text.remove_prefix(size);
    text.remove_prefix(LeadingSpace(text));
  }
  return parts;
}

// From the right: the rest on the left loses the white space at its end.
std::vector<std::string> SplitAtSpaceFromRight(std::string_view text,
                                               int64_t max_split) {
  std::vector<std::string> parts;
  text = Strip(text, Sides::kRight);
  while (!text.empty()) {
    size_t begin = text.size();
    if (static_cast<int64_t>(parts.size()) == max_split) begin = 0;
    while (begin > 0) {
      const Character c = LastCharacter(text.substr(0, begin));
      if (IsSpace(c.value)) break;
      begin -= c.size;
    }
    parts.emplace_back(text.substr(begin));
    text = Strip(text.substr(0, begin), Sides::kRight);
  }
  std::ranges::reverse(parts);
  return parts;
}

bool IsCased(char32_t c) {
  return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_CASED);
}

bool IsPrintable(char32_t c) {
  if (c == ' ') return true;
  constexpr uint32_t kNot = U_GC_C_MASK | U_GC_Z_MASK;
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & kNot) == 0;
}

}  // namespace

bool IsSpace(char32_t c) { return IsWhiteSpace(c) || (c >= 0x1c && c <= 0x1f); }

std::u32string Decode(std::string_view text) {
  std::u32string out;
  while (!text.empty()) {
    const Character c = FirstCharacter(text);
    out += c.value;
    text.remove_prefix(c.size);
  }
  return out;
}

std::string Encode(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) AppendUtf8(c, out);
  return out;
}

int64_t Length(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; });
}

std::string_view Strip(std::string_view text, Sides sides,
                       std::optional<std::string_view> chars) {
  const std::u32string set = chars ? Decode(*chars) : U"";
  const auto goes = [&](char32_t c) {
    return chars ? set.find(c) != std::u32string::npos : IsSpace(c);
  };
  for (const bool end : {false, true}) {
    if (sides == (end ? Sides::kLeft : Sides::kRight)) continue;
    while (!text.empty()) {
      const Character c = At(text, end);
      if (!goes(c.value)) break;
      end ? text.remove_suffix(c.size) : text.remove_prefix(c.size);
    }
  }
  return text;
}

std::vector<std::string> Split(std::string_view text,
                               std::optional<std::string_view> separator,
                               int64_t max_split, From from) {
  if (!separator) {
    return from == From::kLeft ? SplitAtSpace(text, max_split)
                               : SplitAtSpaceFromRight(text, max_split);
  }
  std::vector<std::string> parts;
  while (static_cast<int64_t>(parts.size()) != max_split) {
    const size_t at =
        from == From::kLeft ? text.find(*separator) : text.rfind(*separator);
    if (at == std::string_view::npos) break;
    if (from == From::kLeft) {
      parts.emplace_back(text.substr(0, at));
      text.remove_prefix(at + separator->size());
    } else {
      parts.emplace_back(text.substr(at + separator->size()));
      text = text.substr(0, at);
    }
  }
  parts.emplace_back(text);
  if (from == From::kRight) std::ranges::reverse(parts);
  return parts;
}

std::vector<std::string> SplitLines(std::string_view text) {
  std::vector<std::string> lines;
  std::string line;
  bool open = false;
  while (!text.empty()) {
    const Character c = FirstCharacter(text);
    const bool ends = (c.value >= 0xa && c.value <= 0xd) ||
                      (c.value >= 0x1c && c.value <= 0x1e) || c.value == 0x85 ||
                      c.value == 0x2028 || c.value == 0x2029;
    if (!ends) line += text.substr(0, c.size);
    open = !ends;
    text.remove_prefix(c.size);
    if (!ends) continue;
    if (c.value == '\r' && text.starts_with('\n')) text.remove_prefix(1);
    lines.push_back(std::move(line));
    line.clear();
  }
  if (open) lines.push_back(std::move(line));
  return lines;
}

std::string Replace(std::string_view text, std::string_view old,
                    std::string_view replacement, int64_t count) {
  std::string out;
  for (int64_t done = 0; done != count; ++done) {
    // An empty `old` stands before each character and at the end.
    if (old.empty()) {
      out += replacement;
      if (text.empty()) return out;
      const size_t size = FirstCharacter(text).size;
      out += text.substr(0, size);
      text.remove_prefix(size);
      continue;
    }
    const size_t at = text.find(old);
    if (at == std::string_view::npos) break;
    out += text.substr(0, at);
    out += replacement;
    text.remove_prefix(at + old.size());
  }
  out += text;
  return out;
}

std::string Upper(std::string_view text) {
  return FromIcu(ToIcu(text).toUpper(icu::Locale::getRoot()));
}

std::string Lower(std::string_view text) {
  return FromIcu(ToIcu(text).toLower(icu::Locale::getRoot()));
}

std::string Title(std::string_view text) {
  std::u32string out;
  bool within = false;
  for (const char32_t c : Decode(text)) {
    const auto u = static_cast<UChar32>(c);
    out += static_cast<char32_t>(within ? u_tolower(u) : u_totitle(u));
    within = IsCased(c);
  }
  return Encode(out);
}

std::string Capitalize(std::string_view text) {
  if (text.empty()) return "";
  const size_t size = FirstCharacter(text).size;
  return Title(text.substr(0, size)) + Lower(text.substr(size));
}

std::string Repr(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string out(1, quote);
  for (const char32_t c : Decode(text)) {
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (IsPrintable(c)) {
      AppendUtf8(c, out);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
  }
  return out + quote;
}

std::string Repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  // Python leaves the plain form at 16 digits before the point and at 4 zeros
  // behind it.
  const double size = std::fabs(value);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
  const auto end = std::to_chars(
      std::begin(buffer), std::end(buffer), value,
      plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string out(std::begin(buffer), end.ptr);
  if (plain && out.find('.') == std::string::npos) out += ".0";
  return out;
}

}  // namespace mobe::python
