#include "cli/terminal.h"

#include <gtest/gtest.h>

namespace mobe {
namespace {

TEST(Terminal, LinesAreBrokenAtBlanks) {
  const std::string line =
      "layer   0 gate  scaled MSE 0.01410  relative error 0.1188  worst expert "
      "0.1492 (7)";
  EXPECT_EQ(WrapToColumns(line, 100), line);
  EXPECT_EQ(WrapToColumns(line, 40),
            "layer   0 gate  scaled MSE 0.01410\n"
            "  relative error 0.1188\n"
            "  worst expert 0.1492 (7)");
  EXPECT_EQ(WrapToColumns(line, 60),
            "layer   0 gate  scaled MSE 0.01410  relative error 0.1188\n"
            "  worst expert 0.1492 (7)");
  EXPECT_EQ(WrapToColumns("of a word or two", 10), "of a word\n  or two");
  // Rather at one than half empty.
  EXPECT_EQ(
      WrapToColumns("  total            17,288,832 parameters, 34 MB", 40),
      "  total            17,288,832\n  parameters, 34 MB");
  EXPECT_EQ(WrapLines("one two three\n\nfour five six\n", 8),
            "one two\n  three\n\nfour\n  five\n  six\n");
  EXPECT_EQ(WrapLines("one two three", 8), "one two\n  three");
  const std::string word(100, 'x');
  EXPECT_EQ(WrapToColumns(word, 40), word);
  EXPECT_EQ(WrapToColumns(word + ": is long", 40), word + ":\n  is long");
}

}  // namespace
}  // namespace mobe
