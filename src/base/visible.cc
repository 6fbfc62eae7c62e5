#include "base/visible.h"

#include <fmt/core.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>

#include "base/unicode.h"

namespace mobe {
namespace {

bool IsHidden(UChar32 c, Lines lines) {
  if (c == '\n' || c == '\t') return lines == Lines::kOne;
  return c < 0x20 || (c >= 0x7f && c < 0xa0) ||  // C0, DEL, C1
         c == 0x2028 || c == 0x2029 ||           // separators
         (c >= 0x202a && c <= 0x202e) ||         // embeddings, overrides
         (c >= 0x2066 && c <= 0x2069);           // isolates
}

// 0 of what combines with the character before, 2 of what East Asian fonts show
// wide.
int ColumnsOf(char32_t c) {
  const auto point = static_cast<UChar32>(c);
  constexpr uint32_t kNone = U_GC_MN_MASK | U_GC_ME_MASK | U_GC_CF_MASK;
  if ((U_GET_GC_MASK(point) & kNone) != 0) return 0;
  const int width = u_getIntPropertyValue(point, UCHAR_EAST_ASIAN_WIDTH);
  return width == U_EA_WIDE || width == U_EA_FULLWIDTH ? 2 : 1;
}

}  // namespace

std::string Visible(std::string_view text, Lines lines) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    UChar32 c;
    U8_NEXT(text, i, text.size(), c);
    if (c < 0) {
      for (size_t k = start; k < i; ++k) {
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[k]));
      }
    } else if (c == '\n' && lines == Lines::kOne) {
      out += "\\n";
    } else if (c == '\t' && lines == Lines::kOne) {
      out += "\\t";
    } else if (IsHidden(c, lines)) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      out.append(text, start, i - start);
    }
  }
  return out;
}

std::string CutMiddle(std::string text, size_t max_bytes) {
  constexpr std::string_view kGap = " ... ";
  if (text.size() <= max_bytes) return text;
  const size_t kept = max_bytes - std::min(max_bytes, kGap.size());
  size_t head = kept - kept / 4;  // the end says what was expected, what to do
  size_t tail = text.size() - kept / 4;
  // Not within a character of UTF-8.
  while (head > 0 && (text[head] & 0xc0) == 0x80) --head;
  while (tail < text.size() && (text[tail] & 0xc0) == 0x80) ++tail;
  return text.replace(head, tail - head, kGap);
}

std::string FormatCount(int64_t count) {
  std::string text = std::to_string(count);
  const int first = count < 0 ? 1 : 0;
  for (int at = static_cast<int>(text.size()) - 3; at > first; at -= 3) {
    text.insert(static_cast<size_t>(at), 1, ',');
  }
  return text;
}

int ColumnsOf(std::string_view text) {
  int columns = 0;
  while (!text.empty()) {
    const Character c = FirstCharacter(text);
    columns += ColumnsOf(c.value);
    text.remove_prefix(c.size);
  }
  return columns;
}

std::string CutToColumns(const std::string& text, int columns) {
  constexpr std::string_view kCut = "..";
  if (ColumnsOf(text) <= columns) return text;
  const bool marked = columns > static_cast<int>(kCut.size());
  int room = marked ? columns - static_cast<int>(kCut.size()) : columns;
  const std::string_view all = text;
  size_t end = 0;
  while (end < text.size()) {
    const Character c = FirstCharacter(all.substr(end));
    room -= ColumnsOf(c.value);
    if (room < 0) break;
    end += c.size;
  }
  return text.substr(0, end).append(marked ? kCut : "");
}

}  // namespace mobe
