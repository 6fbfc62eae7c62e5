#include "eval/python_text.h"

#include <gtest/gtest.h>

namespace mobe {
namespace {

TEST(PythonTextTest, DoesWhatPythonDoes) {
  EXPECT_EQ(PythonStrip(" \x1c\u3000a b\u00a0\n"), "a b");
  EXPECT_EQ(PythonRStrip(" a \n"), " a");
  EXPECT_EQ(PythonStrip(" \n"), "");
  EXPECT_EQ(PythonCapitalize("the Man ÄÖ"), "The man äö");
  EXPECT_EQ(PythonCapitalize("ßA"), "Ssa");
  EXPECT_EQ(PythonCapitalize(""), "");
  EXPECT_EQ(Replaced("aaa-a", "aa", "b"), "ba-a");
  EXPECT_EQ(Replaced("", "a", "b"), "");
}

}  // namespace
}  // namespace mobe
