#include "base/unicode.h"

#include <gtest/gtest.h>

#include <string>

#include "text/byte_level.h"
#include "text/token_trie.h"

namespace mobe {
namespace {

TEST(UnicodeTest, InvalidUtf8IsReplacedByMaximalSubparts) {
  EXPECT_EQ(ReplaceInvalidUtf8(""), "");
  EXPECT_EQ(ReplaceInvalidUtf8("aé中😀"), "aé中😀");
  EXPECT_EQ(ReplaceInvalidUtf8("\x80z"), "\ufffdz");
  EXPECT_EQ(ReplaceInvalidUtf8("\xf0\x9f\x98z"), "\ufffdz");
  EXPECT_EQ(ReplaceInvalidUtf8("\xf0\x9f\xf0\x9f\x98\x80"), "\ufffd😀");
  // A surrogate: no prefix of it is right.
  EXPECT_EQ(ReplaceInvalidUtf8("\xed\xa0\x80"), "\ufffd\ufffd\ufffd");
}

TEST(UnicodeTest, UnfinishedCharactersAreNotComplete) {
  EXPECT_EQ(CompleteUtf8Length("ab"), 2u);
  EXPECT_EQ(CompleteUtf8Length("aé"), 3u);
  EXPECT_EQ(CompleteUtf8Length("a\xc3"), 1u);
  EXPECT_EQ(CompleteUtf8Length("a\xf0\x9f\x98"), 1u);
  // No byte can complete these.
  EXPECT_EQ(CompleteUtf8Length("a\xff"), 2u);
  EXPECT_EQ(CompleteUtf8Length("a\xed\xa0"), 3u);
  // Nothing before the text is looked at.
  EXPECT_EQ(CompleteUtf8Length(std::string_view("\xf0\x9f\x98").substr(1)), 2u);
}

TEST(UnicodeTest, Nfc) {
  EXPECT_EQ(Nfc("e\u0301 q\u0307\u0323"), "\u00e9 q\u0323\u0307");
  EXPECT_EQ(Nfc("\u0f72\u0f73"), "\u0f71\u0f72\u0f72");
  // A mark of Unicode 14 stays before one of a lower combining class.
  EXPECT_EQ(Nfc("a\u0898\u0334"), "a\u0898\u0334");
}

TEST(UnicodeTest, LongRunsOfMarksDoNotTakeQuadraticTime) {
  const int count = 500'000;
  std::string text = "x";
  std::string expected = "x";
  for (int i = 0; i < count; ++i) text += "\u0301\u0334";
  for (int i = 0; i < count; ++i) expected += "\u0334";
  for (int i = 0; i < count; ++i) expected += "\u0301";
  EXPECT_TRUE(Nfc(text) == expected);
}

TEST(ByteLevelTest, EveryByteHasACharacterOfItsOwn) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) {
    bytes.push_back(static_cast<char>(byte));
  }
  EXPECT_EQ(FromByteLevel(ToByteLevel(bytes)), bytes);
  EXPECT_EQ(ToByteLevel(" a\n\xad\xff"), "ĠaĊŃÿ");
  // One character outside the alphabet: the token's own bytes.
  EXPECT_EQ(FromByteLevel("Ġ中"), "Ġ中");
  EXPECT_EQ(FromByteLevel("Ġ a"), "Ġ a");
}

TEST(TokenTrieTest, TakesTheLeftmostAndLongest) {
  TokenTrie trie;
  trie.Add("ab", 0);
  trie.Add("abcd", 1);
  trie.Add("bcde", 2);
  trie.Add("ab", 3);
  const auto matches = trie.FindAll("xabcdeabcbcdeab");
  ASSERT_EQ(matches.size(), 4u);
  EXPECT_EQ(matches[0].value, 1);
  EXPECT_EQ(matches[0].begin, 1u);
  EXPECT_EQ(matches[0].end, 5u);
  EXPECT_EQ(matches[1].value, 0);
  EXPECT_EQ(matches[2].value, 2);
  EXPECT_EQ(matches[3].end, 15u);
  EXPECT_TRUE(TokenTrie().FindAll("abc").empty());
}

}  // namespace
}  // namespace mobe
