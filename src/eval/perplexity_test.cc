#include "eval/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/parallel.h"
#include "base/testing.h"
#include "eval/golden.h"

namespace mobe {
namespace {

const std::filesystem::path kMini = SourcePath("models/mini-qwen3-moe");
const std::filesystem::path kText = kMini / "sample.txt";

const Model& Mini() {
  static const Model model = Model::Load(kMini, {});
  return model;
}

void ExpectGolden(const char* key, const Protocol& protocol, int64_t context) {
  const Json golden = EvalGolden().at("perplexity");
  const EvalText text =
      ReadEvalText(kMini, kText, golden.at("text_tokens").get<int64_t>());
  EvalOptions options;
  options.protocol = protocol;
  options.context = context;
  const PerplexityReport report = Perplexity(Mini(), text, options);
  EXPECT_EQ(report.run.tokens, golden.at(key).at("tokens").get<int64_t>());
  const double ppl = golden.at(key).at("ppl").get<double>();
  EXPECT_NEAR(report.perplexity.value, ppl, 1e-4 * ppl);
  const double error = golden.at(key).at("ppl_stderr").get<double>();
  EXPECT_NEAR(report.perplexity.error, error, 1e-4 * error);
}

TEST(PerplexityTest, GoldenOfOneWindow) {
  ExpectGolden("hf", Protocols()[0], 0);
}

TEST(PerplexityTest, GoldenOfShortWindows) {
  ExpectGolden("hf_64", Protocols()[0], 64);
}

TEST(PerplexityTest, GoldenOfLlamaCppChunks) {
  ExpectGolden("llama.cpp_64", Protocols()[1], 64);
}

TEST(PerplexityTest, DoesNotDependOnThreads) {
  const EvalText text = ReadEvalText(kMini, kText, 100);
  ASSERT_EQ(text.tokens.size(), 100u);
  std::vector<double> values;
  for (const int threads : {1, 3}) {
    SetThreads(threads);
    values.push_back(Perplexity(Mini(), text, {}).perplexity.value);
  }
  SetThreads(0);
  EXPECT_EQ(values[0], values[1]);
}

TEST(PerplexityTest, RefusesLogitsThatAreNotFinite) {
  EXPECT_EQ(Finite(Mini(), 1.5), 1.5);
  try {
    Finite(Mini(), std::numeric_limits<double>::quiet_NaN());
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCorruptFile);
  }
}

}  // namespace
}  // namespace mobe
