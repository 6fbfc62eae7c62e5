#include "text/bpe.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mobe::bpe_test {
namespace {

using Ids = std::vector<int32_t>;

Ids Encode(const Bpe& bpe, std::string_view piece) {
  Bpe::Scratch scratch;
  Ids ids;
  bpe.Encode(piece, scratch, ids);
  return ids;
}

Bpe Make(const char* vocab, const char* merges, bool ignore_merges = false) {
  return {{{"vocab", Json::parse(vocab)},
           {"merges", Json::parse(merges)},
           {"ignore_merges", ignore_merges}},
          "test"};
}

TEST(BpeTest, LowestRankFirstThenLeftmost) {
  const Bpe bpe = Make(R"({"a":0,"b":1,"c":2,"bc":3,"ab":4,"aa":5})",
                       R"(["b c", ["a", "b"], "a a"])");
  EXPECT_EQ(Encode(bpe, "abc"), (Ids{0, 3}));
  EXPECT_EQ(Encode(bpe, "ab"), (Ids{4}));
  EXPECT_EQ(Encode(bpe, "aaa"), (Ids{5, 0}));
  EXPECT_EQ(Encode(bpe, "aaab"), (Ids{5, 4}));
  EXPECT_EQ(Encode(bpe, ""), Ids{});
}

TEST(BpeTest, OfAMergeGivenTwiceTheLastCounts) {
  const Bpe bpe = Make(R"({"a":0,"b":1,"c":2,"bc":3,"ab":4})",
                       R"(["#version: 0.2", "a b", "b c", "a b"])");
  EXPECT_EQ(Encode(bpe, "abc"), (Ids{0, 3}));
}

TEST(BpeTest, BytesThatAreNotInTheVocabularyAreLeftOut) {
  const Bpe bpe = Make(R"({"a":0,"b":1,"ab":2})", R"(["a b"])");
  EXPECT_EQ(Encode(bpe, "axb"), (Ids{2}));
  EXPECT_EQ(Encode(bpe, "x"), Ids{});
}

TEST(BpeTest, IgnoreMergesTakesWholePieces) {
  const char* vocab = R"({"a":0,"Ġ":1,"Ġa":2,"aa":3})";
  EXPECT_EQ(Encode(Make(vocab, R"(["a a"])", true), " a"), (Ids{2}));
  EXPECT_EQ(Encode(Make(vocab, R"(["a a"])", true), " aa"), (Ids{1, 3}));
  EXPECT_EQ(Encode(Make(vocab, R"(["a a"])", false), " a"), (Ids{1, 0}));
}

TEST(BpeTest, LongPiecesDoNotTakeQuadraticTime) {
  // Quadratic time for a million bytes would be an hour.
  const Bpe bpe = Make(R"({"a":0,"aa":1,"aaaa":2,"aaaaaaaa":3})",
                       R"(["a a", "aa aa", "aaaa aaaa"])");
  const size_t count = size_t{1} << 17;
  EXPECT_EQ(Encode(bpe, std::string(count * 8, 'a')), Ids(count, 3));
}

}  // namespace
}  // namespace mobe::bpe_test
