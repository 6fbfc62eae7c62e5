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
  const std::string word(100, 'x');
  EXPECT_EQ(WrapToColumns(word, 40), word);
}

}  // namespace
}  // namespace mobe
