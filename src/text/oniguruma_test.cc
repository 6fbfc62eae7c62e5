#include "text/oniguruma.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "text/regex.h"

namespace mobe {
namespace {

// `text` with [] around each match.
std::string Mark(std::string_view pattern, std::string_view text) {
  const SplitRegex regex(pattern, "test");
  const auto units = icu::UnicodeString::fromUTF8(
      {text.data(), static_cast<int32_t>(text.size())});
  std::vector<SplitRegex::Span> spans;
  SplitRegex::Matcher(regex, units).Split(0, units.length(), spans);
  std::string out;
  for (const auto& span : spans) {
    std::string part;
    units.tempSubStringBetween(span.begin, span.end).toUTF8String(part);
    out += span.is_match ? "[" + part + "]" : part;
  }
  return out;
}

// What the library gave for these (tokenizers 0.22).
TEST(OnigurumaTest, MatchesAsOnigurumaDoes) {
  struct Case {
    const char* pattern;
    const char* text;
    const char* marked;
  };
  for (const Case& c : {
           Case{R"(\s)", "a\vb\u0085c\u3000d\u200be",
                "a[\v]b[\u0085]c[\u3000]d\u200be"},
           Case{R"([^\s]+)", "a\vb\u0085c", "[a]\v[b]\u0085[c]"},
           Case{R"(\S+)", "a\vb", "[a]\v[b]"},
           Case{R"(\w+)", "aé_1\u0301-¼", "[aé_1\u0301]-[¼]"},
           Case{R"([\w]+)", "a¼", "[a]¼"},
           Case{R"(\h+)", "xyzBEEF 09", "xyz[BEEF] [09]"},
           Case{R"(\v)", "\n\v", "\n[\v]"},
           Case{R"(^.)", "ab\ncd\r\u2028e", "[a]b\n[c]d\r\u2028e"},
           Case{R"(.$)", "ab\ncd\re\n", "a[b]\ncd\r[e]\n"},
           Case{R"([a&-]+)", "a&-b", "[a&-]b"},
           Case{R"([+--]+)", "+,-.", "[+,-]."},
           Case{R"([\p{L}&&[^\p{Han}]]+)", "ab中c", "[ab]中[c]"},
           Case{R"([\p{Han}]+)", "a\U0002ebf0中", "a[\U0002ebf0中]"},
           Case{R"(\p{^L}+)", "a12b", "a[12]b"},
           Case{R"(\P{Lu}+)", "ab\u1c89c", "[ab]\u1c89[c]"},
           Case{R"((?i:'s|'ll))", "'S'\u017f'Ll'x", "['S]['\u017f]['Ll]'x"},
           Case{R"(b|)", "ab", "[]a[b]"},
           Case{R"(\x41\u00e9\x{1F600}])", "Aé😀]", "[Aé😀]]"},
       }) {
    EXPECT_EQ(Mark(c.pattern, c.text), c.marked) << c.pattern;
  }
}

TEST(OnigurumaTest, RefusesWhatMayMeanSomethingElse) {
  for (const char* pattern : {R"(\b)",
                              R"(\1)",
                              R"(\pL)",
                              R"(\p{Alpha})",
                              R"(\p{punct})",
                              R"(\p{NoSuch})",
                              R"(\p{L)",
                              R"(\x80)",
                              R"(\x{)",
                              R"(\u12)",
                              R"(\R)",
                              R"(\)",
                              "[a",
                              "[]a]",
                              "[[:alpha:]]",
                              R"([\d-x])",
                              R"([a-\d])",
                              "[a-[b]]",
                              "a{2}+",
                              "a{2}?",
                              "a{,2}",
                              "a{",
                              "a{99999}",
                              "(?m:a)",
                              "a(?i)b",
                              "(?<name>a)",
                              "(a",
                              "a)",
                              "*",
                              "a(?#x)"}) {
    EXPECT_THROW(SplitRegex(pattern, "test"), Error) << pattern;
  }
  EXPECT_THROW(SplitRegex(std::string(1000, '['), "test"), Error);
}

TEST(OnigurumaTest, EscapedTextMatchesItself) {
  const std::string text = R"(a.b*c+?()|[]{}^$\#&-~ é)";
  EXPECT_EQ(Mark(EscapeRegex(text), "x" + text), "x[" + text + "]");
}

TEST(SplitRegexTest, RegionIsMatchedAsAWholeText) {
  const SplitRegex regex("(?<=a)b|^c", "test");
  const icu::UnicodeString text(u"abc");
  SplitRegex::Matcher matcher(regex, text);
  std::vector<SplitRegex::Span> spans;
  matcher.Split(1, 3, spans);
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_FALSE(spans[0].is_match);
  matcher.Split(2, 3, spans);
  EXPECT_TRUE(spans[1].is_match);
}

}  // namespace
}  // namespace mobe
