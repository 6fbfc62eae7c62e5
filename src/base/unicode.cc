#include "base/unicode.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unicode_16.h"

namespace mobe {
namespace {

// NFC by the characters of Unicode 9.0: the others stay where they are.
struct LibraryNfc {
  UErrorCode status = U_ZERO_ERROR;
  icu::UnicodeSet characters{u"[:age=9.0:]", status};
  icu::FilteredNormalizer2 normalizer{*icu::Normalizer2::getNFCInstance(status),
                                      characters};
  LibraryNfc() {
    characters.freeze();
    if (U_FAILURE(status)) {
      Fail(ErrorKind::kInternal, "ICU has no NFC: {}", u_errorName(status));
    }
  }
};

// Puts each run of combining marks in canonical order, as NFC wants it. ICU
// does it too, but by insertion: a run of a million marks would take it hours.
std::string OrderMarks(std::string_view text,
                       const icu::Normalizer2& normalizer) {
  // Of combining class 0, but made of marks of other classes.
  static constexpr struct {
    char32_t whole, first, second;
  } kTibetan[] = {
      {0xf73, 0xf71, 0xf72}, {0xf75, 0xf71, 0xf74}, {0xf81, 0xf71, 0xf80}};
  std::string out;
  out.reserve(text.size());
  std::vector<std::pair<uint8_t, char32_t>> run;  // combining class, mark
  const auto end_run = [&] {
    std::ranges::stable_sort(run, {}, [](const auto& p) { return p.first; });
    for (const auto& [combining_class, mark] : run) AppendUtf8(mark, out);
    run.clear();
  };
  const auto add = [&](char32_t c) {
    // No mark comes before U+0300.
    const uint8_t combining_class =
        c < 0x300 ? 0 : normalizer.getCombiningClass(static_cast<UChar32>(c));
    if (combining_class == 0) {
      end_run();
      AppendUtf8(c, out);
    } else {
      run.emplace_back(combining_class, c);
    }
  };
  while (!text.empty()) {
    const Character c = FirstCharacter(text);
    text.remove_prefix(c.size);
    const auto* tibetan =
        std::ranges::find(kTibetan, c.value, [](auto& t) { return t.whole; });
    if (tibetan == std::end(kTibetan)) {
      add(c.value);
    } else {
      add(tibetan->first);
      add(tibetan->second);
    }
  }
  end_run();
  return out;
}

}  // namespace

std::string ReplaceInvalidUtf8(std::string_view text) {
  const char* s = text.data();
  const size_t size = text.size();
  std::string out;
  out.reserve(size);
  size_t copied = 0;
  for (size_t i = 0; i < size;) {
    const size_t start = i;
    UChar32 c;
    U8_NEXT(s, i, size, c);
    if (c >= 0) continue;
    out.append(text, copied, start - copied);
    out.append("\xef\xbf\xbd");
    copied = i;
  }
  return out.append(text, copied);
}

size_t ValidUtf8Length(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const size_t start = i;
    UChar32 c;
    U8_NEXT(text, i, text.size(), c);
    if (c < 0) return start;
  }
  return i;
}

size_t CompleteUtf8Length(std::string_view text) {
  // Signed, as the macro wants it: it looks whether length - 2 is negative.
  auto length = static_cast<int64_t>(text.size());
  U8_TRUNCATE_IF_INCOMPLETE(text, 0, length);
  return static_cast<size_t>(length);
}

std::string Nfc(std::string_view text) {
  static const LibraryNfc nfc;
  const std::string ordered = OrderMarks(text, nfc.normalizer);
  UErrorCode status = U_ZERO_ERROR;
  std::string out;
  out.reserve(text.size());
  icu::StringByteSink<std::string> sink(&out);
  nfc.normalizer.normalizeUTF8(
      0, {ordered.data(), static_cast<int32_t>(ordered.size())}, sink, nullptr,
      status);
  if (U_FAILURE(status)) {
    Fail(ErrorKind::kInternal, "NFC of {} bytes failed: {}", text.size(),
         u_errorName(status));
  }
  return out;
}

bool IsWhiteSpace(char32_t c) {
  return u_isUWhiteSpace(static_cast<UChar32>(c));
}

bool IsWord(char32_t c) {
  constexpr uint32_t kMarks = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  static const icu::UnicodeSet added = [] {
    UErrorCode status = U_ZERO_ERROR;
    const std::string members = NewMembers(U_GC_L_MASK | U_GC_NL_MASK | kMarks);
    return icu::UnicodeSet(icu::UnicodeString::fromUTF8("[" + members + "]"),
                           status);
  }();
  const auto point = static_cast<UChar32>(c);
  return added.contains(point) || u_isUAlphabetic(point) ||
         u_hasBinaryProperty(point, UCHAR_JOIN_CONTROL) ||
         (U_GET_GC_MASK(point) & kMarks) != 0;
}

int64_t CountCharacters(std::string_view text) {
  return std::ranges::count_if(text, [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  });
}

Character FirstCharacter(std::string_view text) {
  size_t i = 0;
  UChar32 c;
  U8_NEXT_UNSAFE(text, i, c);
  return {static_cast<char32_t>(c), i};
}

Character LastCharacter(std::string_view text) {
  size_t i = text.size();
  UChar32 c;
  U8_PREV_UNSAFE(text, i, c);
  return {static_cast<char32_t>(c), text.size() - i};
}

void AppendUtf8(char32_t c, std::string& out) {
  char bytes[U8_MAX_LENGTH];
  size_t size = 0;
  U8_APPEND_UNSAFE(bytes, size, static_cast<UChar32>(c));
  out.append(bytes, size);
}

}  // namespace mobe
