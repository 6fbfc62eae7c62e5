#include "eval/bleu.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/json.h"
#include "base/testing.h"

namespace mobe {
namespace {

// tests/data/eval/bleu.json: what sacrebleu 2.5.1 gives.
TEST(BleuTest, EqualsSacrebleu) {
  const auto path = SourcePath("tests/data/eval/bleu.json");
  const Json golden = ParseJson(ReadSmallFile(path), path.string());
  for (const Json& example : golden.at("cases")) {
    const BleuTokens tokens =
        example.at("tokens") == Json("zh") ? BleuTokens::kZh : BleuTokens::k13a;
    Sums sums(10);
    for (const Json& pair : example.at("pairs")) {
      const Sums of_pair = BleuSums(pair[0].get<std::string>(),
                                    pair[1].get<std::string>(), tokens);
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += of_pair[i];
    }
    EXPECT_EQ(sums, example.at("sums").get<Sums>()) << example.dump();
    EXPECT_NEAR(BleuOfSums(sums), example.at("bleu").get<double>(), 1e-9)
        << example.dump();
  }
}

TEST(BleuTest, KnowsChineseFromOthers) {
  EXPECT_EQ(BleuTokensOf("zh-CN"), BleuTokens::kZh);
  EXPECT_EQ(BleuTokensOf("de"), BleuTokens::k13a);
}

}  // namespace
}  // namespace mobe
