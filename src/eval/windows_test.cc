#include "eval/windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace mobe {
namespace {

using testing::ElementsAre;

const Protocol& Hf() { return Protocols()[0]; }
const Protocol& LlamaCpp() { return Protocols()[1]; }

std::vector<std::array<int64_t, 3>> Split(const Protocol& protocol,
                                          int64_t context, int64_t tokens) {
  std::vector<std::array<int64_t, 3>> split;
  for (const Window& w : SplitWindows(protocol, context, tokens)) {
    split.push_back({w.begin, w.first, w.end});
  }
  return split;
}

using W = std::array<int64_t, 3>;

TEST(WindowsTest, Names) {
  ASSERT_EQ(Protocols().size(), 2u);
  EXPECT_EQ(Hf().name, "hf");
  EXPECT_EQ(Hf().context, 2048);
  EXPECT_EQ(LlamaCpp().name, "llama.cpp");
  EXPECT_EQ(LlamaCpp().context, 512);
}

TEST(WindowsTest, HfTakesEveryWindowThatPredicts) {
  EXPECT_THAT(Split(Hf(), 4, 0), ElementsAre());
  EXPECT_THAT(Split(Hf(), 4, 1), ElementsAre());
  EXPECT_THAT(Split(Hf(), 4, 2), ElementsAre(W{0, 1, 2}));
  EXPECT_THAT(Split(Hf(), 4, 4), ElementsAre(W{0, 1, 4}));
  EXPECT_THAT(Split(Hf(), 4, 5), ElementsAre(W{0, 1, 4}));
  EXPECT_THAT(Split(Hf(), 4, 6), ElementsAre(W{0, 1, 4}, W{4, 5, 6}));
  EXPECT_THAT(Split(Hf(), 4, 8), ElementsAre(W{0, 1, 4}, W{4, 5, 8}));
}

TEST(WindowsTest, LlamaCppTakesWholeChunksAndTheirSecondHalf) {
  EXPECT_THAT(Split(LlamaCpp(), 8, 0), ElementsAre());
  EXPECT_THAT(Split(LlamaCpp(), 8, 7), ElementsAre());
  EXPECT_THAT(Split(LlamaCpp(), 8, 8), ElementsAre(W{0, 5, 8}));
  EXPECT_THAT(Split(LlamaCpp(), 8, 15), ElementsAre(W{0, 5, 8}));
  EXPECT_THAT(Split(LlamaCpp(), 8, 16), ElementsAre(W{0, 5, 8}, W{8, 13, 16}));
  EXPECT_THAT(Split(LlamaCpp(), 9, 9), ElementsAre(W{0, 5, 9}));
  EXPECT_THAT(Split(LlamaCpp(), 2, 8), ElementsAre());
}

TEST(WindowsTest, CountsPredictedTokens) {
  EXPECT_EQ(PredictedTokens(SplitWindows(Hf(), 2048, 1)), 0);
  EXPECT_EQ(PredictedTokens(SplitWindows(Hf(), 2048, 5000)), 5000 - 3);
  EXPECT_EQ(PredictedTokens(SplitWindows(Hf(), 2048, 4097)), 2 * 2047);
  // llama.cpp counts n_ctx - n_ctx / 2 - 1 tokens in each chunk.
  EXPECT_EQ(PredictedTokens(SplitWindows(LlamaCpp(), 512, 5000)), 9 * 255);
}

}  // namespace
}  // namespace mobe
