#include "text/unicode.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include "base/error.h"

namespace mobe {

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

size_t CompleteUtf8Length(std::string_view text) {
  size_t length = text.size();
  U8_TRUNCATE_IF_INCOMPLETE(text.data(), 0u, length);
  return length;
}

std::string Nfc(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
  std::string out;
  out.reserve(text.size());
  if (U_SUCCESS(status)) {
    icu::StringByteSink<std::string> sink(&out);
    nfc->normalizeUTF8(0, {text.data(), static_cast<int32_t>(text.size())},
                       sink, nullptr, status);
  }
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
  const auto point = static_cast<UChar32>(c);
  return u_isUAlphabetic(point) ||
         u_hasBinaryProperty(point, UCHAR_JOIN_CONTROL) ||
         (U_GET_GC_MASK(point) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) !=
             0;
}

Character FirstCharacter(std::string_view text) {
  size_t i = 0;
  UChar32 c;
  U8_NEXT_UNSAFE(text.data(), i, c);
  return {static_cast<char32_t>(c), i};
}

Character LastCharacter(std::string_view text) {
  size_t i = text.size();
  UChar32 c;
  U8_PREV_UNSAFE(text.data(), i, c);
  return {static_cast<char32_t>(c), text.size() - i};
}

void AppendUtf8(char32_t c, std::string& out) {
  char bytes[U8_MAX_LENGTH];
  size_t size = 0;
  U8_APPEND_UNSAFE(bytes, size, static_cast<UChar32>(c));
  out.append(bytes, size);
}

}  // namespace mobe
