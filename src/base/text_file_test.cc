#include "base/text_file.h"

#include <gtest/gtest.h>

#include <string_view>

#include "base/error.h"

namespace mobe {
namespace {

using namespace std::string_literals;

std::string Decoded(std::string bytes) {
  return DecodeText(std::move(bytes), "f");
}

std::string ErrorOf(std::string bytes) {
  try {
    Decoded(std::move(bytes));
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUserInput);
    return e.what();
  }
  return "none";
}

// `text`, whose characters are below U+10000, in the order of bytes that is
// asked for.
std::string Wide(std::u16string_view text, bool little) {
  std::string bytes;
  for (const char16_t c : text) {
    const char high = static_cast<char>(c >> 8);
    const char low = static_cast<char>(c & 0xff);
    bytes += little ? low : high;
    bytes += little ? high : low;
  }
  return bytes;
}

TEST(TextFile, Utf8IsTakenAsItIsButForItsMark) {
  EXPECT_EQ(Decoded(""), "");
  EXPECT_EQ(Decoded("a\r\n\u00e9\U0001F600\x01\ufeff"),
            "a\r\n\u00e9\U0001F600\x01\ufeff");
  EXPECT_EQ(Decoded("\ufeffab"), "ab");
  EXPECT_EQ(Decoded("PK GGUF PAR1 BZh, all of these begin a text"),
            "PK GGUF PAR1 BZh, all of these begin a text");
}

TEST(TextFile, Utf16IsDecoded) {
  // Longer than the parts in which it is converted.
  std::u16string text;
  std::string expected;
  for (int i = 0; i < 3000; ++i) {
    text += u"a\u00e9\u4e2d\xd83d\xde00\n";
    expected += "a\u00e9\u4e2d\U0001F600\n";
  }
  for (const bool little : {true, false}) {
    EXPECT_EQ(Decoded(Wide(u"\ufeff" + text, little)), expected);
    EXPECT_EQ(Decoded(Wide(u"\ufeff", little)), "");
    EXPECT_EQ(Decoded(Wide(u"Caf\u00e9, no mark\n", little)),
              "Caf\u00e9, no mark\n");
  }
  EXPECT_EQ(Decoded("\xff\xfe\0\0a\0\0\0\x00\xf6\x01\0"s), "a\U0001F600");
}

TEST(TextFile, DamagedUtf16IsRefused) {
  EXPECT_NE(ErrorOf("\xff\xfe"
                    "ab\0"s)
                .find("UTF-16LE"),
            std::string::npos);
  EXPECT_NE(ErrorOf(Wide(u"\ufeff"
                         u"a\xd83d"
                         u"b",
                         true))
                .find("whole"),
            std::string::npos);
}

TEST(TextFile, OtherFormatsAreNamedWithWhatToDo) {
  EXPECT_EQ(ErrorOf("\x1f\x8b\x08\0\0"s),
            "f: expected a text, found gzip-compressed: zcat gives its text");
  const std::string safetensors = "\x40\0\0\0\0\0\0\0{\"a\""s;
  EXPECT_NE(ErrorOf(safetensors).find("safetensors"), std::string::npos);
  EXPECT_NE(ErrorOf("%PDF-1.7\n").find("pdftotext"), std::string::npos);
  EXPECT_NE(ErrorOf("version https://git-lfs.github.com/spec/v1\noid")
                .find("git lfs pull"),
            std::string::npos);
  EXPECT_NE(ErrorOf(std::string(257, 'a') + "ustar").find("tar archive"),
            std::string::npos);
}

TEST(TextFile, WhatIsNoUtf8IsRefusedWithItsPlace) {
  EXPECT_EQ(ErrorOf("ab\ncaf\xe9 au lait"),
            "f: expected a text in UTF-8, found the byte 0xe9 at byte 6, line "
            "2: if it is a text in another encoding, \"iconv -f ISO-8859-1 -t "
            "UTF-8\" or the like converts it");
  EXPECT_EQ(ErrorOf("ab\xe4\xb8"),
            "f: expected a text in UTF-8, but it ends within a character, at "
            "byte 2: cut it between characters");
  EXPECT_EQ(ErrorOf("abc\0d"s).substr(0, 44),
            "f: expected a text, found NUL at byte 3: bin");
  EXPECT_EQ(ErrorOf(std::string(100, '\0')).substr(0, 40),
            "f: expected a text, found NUL at byte 0:");
  // Surrogates, overlong.
  EXPECT_NE(ErrorOf("\xed\xa0\x80"), "none");
  EXPECT_NE(ErrorOf("\xc0\x80"), "none");
}

}  // namespace
}  // namespace mobe
