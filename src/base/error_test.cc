#include "base/error.h"

#include <gtest/gtest.h>

namespace mobe {
namespace {

TEST(ErrorTest, OneLine) {
  EXPECT_EQ(OneLine("a\nb\x1b[31m\u00e9"), "a b [31m\u00e9");
  const std::string whole(2000, 'x');
  EXPECT_EQ(OneLine(whole), whole);
  // Beginning and end stay, and no character is cut.
  std::string text = "begin ";
  for (int i = 0; i < 5000; ++i) text += "\u00e9";
  const std::string cut = OneLine(text + " end");
  EXPECT_TRUE(cut.starts_with("begin \u00e9")) << cut;
  EXPECT_TRUE(cut.ends_with("\u00e9 end")) << cut;
  EXPECT_NE(cut.find("\u00e9 ... \u00e9"), std::string::npos) << cut;
  EXPECT_LE(cut.size(), 2005u);
}

}  // namespace
}  // namespace mobe
