#include "eval/compare.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "base/testing.h"
#include "eval/golden.h"
#include "model/test_models.h"

namespace mobe {
namespace {

Model Load(const std::filesystem::path& folder) {
  return Model::Load(folder, {});
}

TEST(CompareTest, GoldenOfTwoTinyModels) {
  const Json golden = EvalGolden().at("compare");
  EvalText text;
  text.tokens = golden.at("ids").get<std::vector<int32_t>>();
  const CompareReport report = Compare(Load(TestModel("qwen3_moe")),
                                       Load(TestModel("qwen3_mobe")), text, {});
  EXPECT_EQ(report.run.tokens, golden.at("tokens").get<int64_t>());
  const std::pair<const char*, double> values[] = {
      {"kld_mean", report.kld.value},
      {"kld_stderr", report.kld.error},
      {"kld_p50", report.kld_p50},
      {"kld_p90", report.kld_p90},
      {"kld_p95", report.kld_p95},
      {"kld_p99", report.kld_p99},
      {"kld_max", report.kld_max},
      {"top1_agreement", report.top1_agreement.value},
      {"ppl_base", report.perplexity_base.value},
      {"ppl_other", report.perplexity_other.value},
      {"ppl_ratio", report.perplexity_ratio.value},
      {"ppl_ratio_stderr", report.perplexity_ratio.error},
  };
  for (const auto& [key, value] : values) {
    const double expected = golden.at(key).get<double>();
    EXPECT_NEAR(value, expected, 1e-4 * expected) << key;
  }
}

TEST(CompareTest, AModelWithItself) {
  const Model base = Load(TestModel("qwen3_mobe"));
  const Model same = Load(TestModel("qwen3_mobe"));
  EvalText text;
  for (int32_t id = 3; id < 100; ++id) text.tokens.push_back(id * 5);
  EvalOptions options;
  options.context = 40;
  const CompareReport report = Compare(base, same, text, options);
  EXPECT_EQ(report.run.tokens, 97 - 3);
  EXPECT_EQ(report.kld.value, 0);
  EXPECT_EQ(report.kld.error, 0);
  EXPECT_EQ(report.kld_max, 0);
  EXPECT_EQ(report.top1_agreement.value, 1);
  EXPECT_EQ(report.perplexity_base.value, report.perplexity_other.value);
  EXPECT_EQ(report.perplexity_ratio.value, 1);
  EXPECT_EQ(report.perplexity_ratio.error, 0);
}

TEST(CompareTest, RefusesAnotherVocabulary) {
  EvalText text;
  text.tokens = {1, 2, 3};
  try {
    Compare(Load(TestModel("qwen3_moe")),
            Load(SourcePath("models/mini-qwen3-moe")), text, {});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUserInput);
    EXPECT_NE(std::string(error.what()).find("512 tokens"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace mobe
