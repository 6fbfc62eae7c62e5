#include "base/visible.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace mobe {
namespace {

struct VisibleCase {
  std::string text;
  std::string visible;
};

TEST(Visible, WritesOutWhatATerminalWouldObey) {
  const VisibleCase cases[] = {
      {"plain, \u00e9, \u4e2d, \U0001f600",
       "plain, \u00e9, \u4e2d, \U0001f600"},
      // Joiners and marks of direction are part of good text.
      {"a\u200db\u200fc", "a\u200db\u200fc"},
      {"a\x1b[31mb\rc\bd\x7f", "a\\u001b[31mb\\u000dc\\u0008d\\u007f"},
      {std::string("a\0b", 3), "a\\u0000b"},
      {"a\nb\tc", "a\\nb\\tc"},
      {"\u009b2J \u0085\u00a0", "\\u009b2J \\u0085\u00a0"},
      {"abc\u202etxt.exe\u202c", "abc\\u202etxt.exe\\u202c"},
      {"\u202a\u202b\u202d\u2066\u2067\u2068\u2069",
       "\\u202a\\u202b\\u202d\\u2066\\u2067\\u2068\\u2069"},
      {"a\u2028b\u2029", "a\\u2028b\\u2029"},
      {"\x9b"
       "1m",
       "\\x9b1m"},
      {"caf\xe9", "caf\\xe9"},
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},  // half of a surrogate pair
      {"\xf0\x9f\x98", "\\xf0\\x9f\\x98"},  // the end is missing
      {"a\\u001bb", "a\\u001bb"},
      {"", ""},
  };
  for (const VisibleCase& c : cases) EXPECT_EQ(Visible(c.text), c.visible);
  EXPECT_EQ(Visible("a\n\tb\r\x1b", Lines::kMany), "a\n\tb\\u000d\\u001b");
}

TEST(Visible, OneLineIsBounded) {
  EXPECT_EQ(OneLine("a\nb\x1b[31m\u00e9"), "a\\nb\\u001b[31m\u00e9");
  const std::string whole(2000, 'x');
  EXPECT_EQ(OneLine(whole), whole);
  // Beginning and end stay, and no character is cut.
  std::string text = "begin ";
  for (int i = 0; i < 5000; ++i) text += "\u00e9";
  const std::string cut = OneLine(text + " end");
  EXPECT_TRUE(cut.starts_with("begin \u00e9")) << cut;
  EXPECT_TRUE(cut.ends_with("\u00e9 end")) << cut;
  EXPECT_NE(cut.find("\u00e9 ... \u00e9"), std::string::npos) << cut;
  EXPECT_LE(cut.size(), 2000u);
  // Also when it grows by being written out.
  const std::string controls = OneLine(std::string(100'000, '\x1b') + " end");
  EXPECT_LE(controls.size(), 2000u);
  EXPECT_TRUE(controls.starts_with("\\u001b\\u001b")) << controls;
  EXPECT_TRUE(controls.ends_with("\\u001b end")) << controls;
}

TEST(Visible, CutsToColumns) {
  EXPECT_EQ(CutToColumns("layer 3 gate", 12), "layer 3 gate");
  EXPECT_EQ(CutToColumns("layer 3 gate", 11), "layer 3 g..");
  EXPECT_EQ(CutToColumns("layer 3 gate", 2), "la");
  EXPECT_EQ(CutToColumns("layer 3 gate", 0), "");
  EXPECT_EQ(CutToColumns("layer 3 gate", -1), "");
  // Ideographs take two columns, an accent that combines none.
  EXPECT_EQ(ColumnsOf("\u4e2d\u6587"), 4);
  EXPECT_EQ(ColumnsOf("e\u0301"), 1);
  EXPECT_EQ(CutToColumns("\u4e2d\u6587\u4e2d\u6587", 7), "\u4e2d\u6587..");
}

TEST(Visible, FormatsCounts) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(-999), "-999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(-123456), "-123,456");
  EXPECT_EQ(FormatCount(INT64_MAX), "9,223,372,036,854,775,807");
}

}  // namespace
}  // namespace mobe
