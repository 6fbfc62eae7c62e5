#include "jinja/python_text.h"

#include <gtest/gtest.h>

namespace mobe::python {
namespace {

using Parts = std::vector<std::string>;

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
  EXPECT_EQ(Split("a,b,,c", ",", -1, From::kLeft), (Parts{"a", "b", "", "c"}));
  EXPECT_EQ(Split("a,b,c", ",", 1, From::kRight), (Parts{"a,b", "c"}));
  EXPECT_EQ(Split(" a  b c ", std::nullopt, 1, From::kLeft),
            (Parts{"a", "b c "}));
  EXPECT_EQ(Split(" a  b c ", std::nullopt, 1, From::kRight),
            (Parts{" a  b", "c"}));
  EXPECT_EQ(Split("", ",", -1, From::kLeft), (Parts{""}));
  EXPECT_EQ(Split("  ", std::nullopt, -1, From::kLeft), Parts{});
  EXPECT_EQ(SplitLines("a\r\n\nb\u2028c\n"), (Parts{"a", "", "b", "c"}));
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
