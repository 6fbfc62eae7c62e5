#include "jinja/python_text.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>

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

// From the left the rest loses the white space at its beginning, from the
// right that at its end.
void SplitAtSpace(std::string_view text, int64_t max_split,
                  const AddPart& add) {
  text = Strip(text, Sides::kLeft);
  for (int64_t cuts = 0; !text.empty(); ++cuts) {
    const size_t size = cuts == max_split ? text.size() : LeadingWord(text);
    add(text.substr(0, size));
    text = Strip(text.substr(size), Sides::kLeft);
  }
}

void SplitAtSpaceFromRight(std::string_view text, int64_t max_split,
                           const AddPart& add) {
  text = Strip(text, Sides::kRight);
  for (int64_t cuts = 0; !text.empty(); ++cuts) {
    size_t begin = cuts == max_split ? 0 : text.size();
    while (begin > 0) {
      const Character c = LastCharacter(text.substr(0, begin));
      if (IsSpace(c.value)) break;
      begin -= c.size;
    }
    add(text.substr(begin));
    text = Strip(text.substr(0, begin), Sides::kRight);
  }
}

void SplitAt(std::string_view text, std::string_view separator,
             int64_t max_split, const AddPart& add) {
  for (int64_t cuts = 0; cuts != max_split; ++cuts) {
    const size_t at = Find(text, separator);
    if (at == std::string_view::npos) break;
    add(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  add(text);
}

// Backwards, since what finds in linear time goes forward.
void SplitAtFromRight(std::string_view text, std::string_view separator,
                      int64_t max_split, const AddPart& add) {
  const std::string mirrored(text.rbegin(), text.rend());
  size_t end = text.size();
  SplitAt(mirrored, {std::string(separator.rbegin(), separator.rend())},
          max_split, [&](std::string_view part) {
            add(text.substr(end - part.size(), part.size()));
            end -= std::min(end, part.size() + separator.size());
          });
}

bool IsCased(char32_t c) {
  return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_CASED);
}

// Fails for what has no title case of one character: ligatures, sharp s.
char32_t TitleOf(char32_t c) {
  const auto u = static_cast<UChar32>(c);
  const UChar32 title = u_totitle(u);
  if (c >= 0x80 && title == u && u_islower(u) &&
      icu::UnicodeString(u).toUpper(icu::Locale::getRoot()) !=
          icu::UnicodeString(u)) {
    Fail(ErrorKind::kUnsupported, "the title case of U+{:04X}",
         static_cast<uint32_t>(c));
  }
  return static_cast<char32_t>(title);
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

size_t Find(std::string_view text, std::string_view part) {
  const void* at = memmem(text.data(), text.size(), part.data(), part.size());
  if (at == nullptr) return part.empty() ? 0 : std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(at) - text.data());
}

void Split(std::string_view text, std::optional<std::string_view> separator,
           int64_t max_split, From from, const AddPart& add) {
  const bool left = from == From::kLeft;
  if (separator) {
    (left ? SplitAt : SplitAtFromRight)(text, *separator, max_split, add);
  } else {
    (left ? SplitAtSpace : SplitAtSpaceFromRight)(text, max_split, add);
  }
}

void SplitLines(std::string_view text, const AddPart& add) {
  size_t size = 0;  // of the line so far
  while (size < text.size()) {
    const Character c = FirstCharacter(text.substr(size));
    const bool ends = (c.value >= 0xa && c.value <= 0xd) ||
                      (c.value >= 0x1c && c.value <= 0x1e) || c.value == 0x85 ||
                      c.value == 0x2028 || c.value == 0x2029;
    if (!ends) {
      size += c.size;
      continue;
    }
    add(text.substr(0, size));
    text.remove_prefix(size + c.size);
    if (c.value == '\r' && text.starts_with('\n')) text.remove_prefix(1);
    size = 0;
  }
  if (size > 0) add(text);
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
    const size_t at = Find(text, old);
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
  std::string out;
  while (!text.empty()) {
    // A word: cased characters.
    size_t size = 0;
    while (size < text.size()) {
      const Character c = FirstCharacter(text.substr(size));
      if (!IsCased(c.value)) break;
      size += c.size;
    }
    if (size > 0) out += Capitalize(text.substr(0, size));
    text.remove_prefix(size);
    if (text.empty()) break;
    const Character c = FirstCharacter(text);
    AppendUtf8(TitleOf(c.value), out);
    text.remove_prefix(c.size);
  }
  return out;
}

std::string Capitalize(std::string_view text) {
  if (text.empty()) return "";
  const Character first = FirstCharacter(text);
  std::string out;
  AppendUtf8(TitleOf(first.value), out);
  // The first is put to lower case, too, since a sigma looks at it.
  const std::string lower = Lower(text);
  return out + lower.substr(Lower(text.substr(0, first.size)).size());
}

std::optional<std::string> PlainNumber(std::string_view text) {
  std::string out;
  char32_t before = 0;  // '0' for any digit
  for (char32_t c : Decode(Strip(text, Sides::kBoth))) {
    const int32_t digit = u_charDigitValue(static_cast<UChar32>(c));
    if (before == '_' && digit < 0) return std::nullopt;
    if (digit >= 0) {
      out += static_cast<char>('0' + digit);
      c = '0';
    } else if (c == '_') {
      if (before != '0') return std::nullopt;
    } else if (c >= 0x80) {
      return std::nullopt;
    } else if (c == '-' && before == '+') {
      return std::nullopt;
    } else if (c != '+' || before != 0) {
      out += static_cast<char>(c);
    }
    before = c;
  }
  if (before == '_') return std::nullopt;
  return out;
}

std::optional<double> ReadFloat(std::string_view text) {
  const auto plain = PlainNumber(text);
  if (!plain || plain->find('(') != std::string::npos) return std::nullopt;
  double number = 0;
  const char* end = plain->data() + plain->size();
  const auto parsed = std::from_chars(plain->data(), end, number);
  if (plain->empty() || parsed.ptr != end) return std::nullopt;
  // Too large or too small.
  if (parsed.ec != std::errc()) return std::strtod(plain->c_str(), nullptr);
  return number;
}

bool IsDigit(char32_t c) {
  const int32_t type =
      u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE);
  return type == U_NT_DECIMAL || type == U_NT_DIGIT;
}

bool IsDecimal(char32_t c) {
  return u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE) ==
         U_NT_DECIMAL;
}

// Ideographs that are numbers have a numeric type, too.
bool IsNumeric(char32_t c) {
  return u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE) !=
         U_NT_NONE;
}

bool IsAlpha(char32_t c) {
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & U_GC_L_MASK) != 0;
}

bool IsAlnum(char32_t c) { return IsAlpha(c) || IsNumeric(c); }

bool IsPrintable(char32_t c) {
  if (c == ' ') return true;
  constexpr uint32_t kNot = U_GC_C_MASK | U_GC_Z_MASK;
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & kNot) == 0;
}

bool IsLower(std::string_view text) {
  bool some = false;
  for (const char32_t c : Decode(text)) {
    const auto u = static_cast<UChar32>(c);
    if (u_isUUppercase(u) || u_istitle(u)) return false;
    some |= u_isULowercase(u) != 0;
  }
  return some;
}

bool IsUpper(std::string_view text) {
  bool some = false;
  for (const char32_t c : Decode(text)) {
    const auto u = static_cast<UChar32>(c);
    if (u_isULowercase(u) || u_istitle(u)) return false;
    some |= u_isUUppercase(u) != 0;
  }
  return some;
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

std::string EscapeHtml(std::string_view text) {
  constexpr std::string_view kSpecial = "&<>'\"";
  constexpr const char* kEscapes[] = {"&amp;", "&lt;", "&gt;", "&#39;",
                                      "&#34;"};
  std::string out;
  for (const char c : text) {
    const size_t i = kSpecial.find(c);
    i == std::string_view::npos ? out += c : out += kEscapes[i];
  }
  return out;
}

std::string Justify(std::string_view text, int64_t width, std::string_view fill,
                    Side side) {
  const int64_t missing = std::max<int64_t>(width - Length(text), 0);
  // CPython gives an odd one to the left when the width is odd.
  const int64_t left = side == Side::kLeft ? 0
                       : side == Side::kRight
                           ? missing
                           : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (int64_t i = left; i < missing; ++i) out += fill;
  return out;
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
