#include "jinja/python_text.h"

#include <gtest/gtest.h>

namespace mobe::python {
namespace {

using Parts = std::vector<std::string>;

Parts SplitParts(std::string_view text, std::optional<std::string_view> at,
                 int64_t max_split, From from) {
  Parts parts;
  Split(text, at, max_split, from, [&](auto p) { parts.emplace_back(p); });
  return parts;
}

Parts Lines(std::string_view text) {
  Parts lines;
  SplitLines(text, [&](auto line) { lines.emplace_back(line); });
  return lines;
}

TEST(PythonText, ReprOfFloats) {
  const std::pair<double, const char*> cases[] = {{0, "0.0"},
                                                  {-0.0, "-0.0"},
                                                  {1, "1.0"},
                                                  {0.1, "0.1"},
                                                  {1e15, "1000000000000000.0"},
                                                  {1e16, "1e+16"},
                                                  {1e-4, "0.0001"},
                                                  {1e-5, "1e-05"},
                                                  {5e-324, "5e-324"},
                                                  {1.5e300, "1.5e+300"}};
  for (const auto& [value, text] : cases) EXPECT_EQ(Repr(value), text);
}

TEST(PythonText, ReprOfText) {
  EXPECT_EQ(Repr("it's"), "\"it's\"");
  EXPECT_EQ(Repr("'\""), "'\\'\"'");
  EXPECT_EQ(Repr("a\n\\\x01\x7f"), "'a\\n\\\\\\x01\\x7f'");
  EXPECT_EQ(Repr("é\u00ad\u2028\U000e0001"), "'é\\xad\\u2028\\U000e0001'");
}

TEST(PythonText, Splits) {
  EXPECT_EQ(SplitParts("a,b,,c", ",", -1, From::kLeft),
            (Parts{"a", "b", "", "c"}));
  EXPECT_EQ(SplitParts("a,b,c", ",", 1, From::kRight), (Parts{"c", "a,b"}));
  EXPECT_EQ(SplitParts(" a  b c ", std::nullopt, 1, From::kLeft),
            (Parts{"a", "b c "}));
  EXPECT_EQ(SplitParts(" a  b c ", std::nullopt, 1, From::kRight),
            (Parts{"c", " a  b"}));
  EXPECT_EQ(SplitParts("", ",", -1, From::kLeft), (Parts{""}));
  EXPECT_EQ(SplitParts("  ", std::nullopt, -1, From::kLeft), Parts{});
  EXPECT_EQ(Lines("a\r\n\nb\u2028c\n"), (Parts{"a", "", "b", "c"}));
}

TEST(PythonText, SplitsFromTheRightWhereSeparatorsOverlap) {
  EXPECT_EQ(SplitParts("aaa", "aa", -1, From::kLeft), (Parts{"", "a"}));
  EXPECT_EQ(SplitParts("aaa", "aa", -1, From::kRight), (Parts{"", "a"}));
  EXPECT_EQ(SplitParts("xabcab", "ab", 1, From::kRight), (Parts{"", "xabc"}));
}

TEST(PythonText, StripsCharactersNotBytes) {
  // Both are two bytes that begin with 0xc3.
  EXPECT_EQ(Strip("éaé", Sides::kBoth, "è"), "éaé");
  EXPECT_EQ(Strip("éaé", Sides::kLeft, "èé"), "aé");
  EXPECT_EQ(Strip("\u3000a\x1f", Sides::kBoth), "a");
}

TEST(PythonText, Replaces) {
  EXPECT_EQ(Replace("aaa", "a", "bb", 2), "bbbba");
  EXPECT_EQ(Replace("éa", "", "-", -1), "-é-a-");
}

}  // namespace
}  // namespace mobe::python
