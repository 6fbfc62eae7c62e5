#include "model/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"

namespace mobe::sampler_test {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::Pair;

// Probabilities 0.1, 0.4, 0.2, 0.3.
const std::vector<float> kLogits = {std::log(1.0f), std::log(4.0f),
                                    std::log(2.0f), std::log(3.0f)};
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::map<int32_t, double> Distribution(const SamplerOptions& options,
                                       const std::vector<float>& logits,
                                       const std::vector<int32_t>& seen = {}) {
  Sampler sampler(options);
  std::map<int32_t, double> result;
  for (const auto& c : sampler.Distribution(logits, seen)) {
    result[c.token] = c.probability;
  }
  return result;
}

std::vector<int32_t> Draw(const SamplerOptions& options, int count) {
  Sampler sampler(options);
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(sampler.Sample(kLogits, {}));
  return tokens;
}

TEST(SamplerTest, GreedyTakesTheLargestAndTheFirstOfEquals) {
  EXPECT_EQ(Sampler({}).Sample(kLogits, {}), 1);
  EXPECT_EQ(Sampler({}).Sample(std::vector<float>{0, 2, 2}, {}), 1);
  const SamplerOptions top_1 = {.temperature = 2, .top_k = 1};
  EXPECT_THAT(Draw(top_1, 20), testing::Each(1));
}

TEST(SamplerTest, EachOptionCutsTheDistribution) {
  const auto near = [](double p) { return DoubleNear(p, 1e-6); };
  EXPECT_THAT(Distribution({.temperature = 1}, kLogits),
              ElementsAre(Pair(0, near(0.1)), Pair(1, near(0.4)),
                          Pair(2, near(0.2)), Pair(3, near(0.3))));
  // Halving the temperature squares the probabilities.
  EXPECT_THAT(Distribution({.temperature = 0.5, .top_k = 2}, kLogits),
              ElementsAre(Pair(1, near(0.64)), Pair(3, near(0.36))));
  EXPECT_THAT(Distribution({.temperature = 1, .top_p = 0.65}, kLogits),
              ElementsAre(Pair(1, near(4 / 7.0)), Pair(3, near(3 / 7.0))));
  // The token that crosses top_p stays in.
  EXPECT_THAT(Distribution({.temperature = 1, .top_p = 0.75}, kLogits),
              ElementsAre(Pair(1, near(4 / 9.0)), Pair(2, near(2 / 9.0)),
                          Pair(3, near(3 / 9.0))));
  EXPECT_THAT(Distribution({.temperature = 1, .min_p = 0.6}, kLogits),
              ElementsAre(Pair(1, near(4 / 7.0)), Pair(3, near(3 / 7.0))));
  // top_p sees what top_k has left: 4/7 alone reaches 0.55.
  EXPECT_THAT(
      Distribution({.temperature = 1, .top_k = 2, .top_p = 0.55}, kLogits),
      ElementsAre(Pair(1, near(1))));
}

TEST(SamplerTest, TopPOfManyTokens) {
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] = 1e-4f * static_cast<float>(i * 7919 % 5000);
  }
  const auto kept = Distribution({.temperature = 1, .top_p = 0.5}, logits);
  double sum = 0;
  double total = 0;
  double least = 1;
  for (const float logit : logits) total += std::exp(logit);
  for (const auto& [token, p] : kept) {
    const double full = std::exp(logits[static_cast<size_t>(token)]) / total;
    sum += full;
    least = std::min(least, full);
  }
  EXPECT_GE(sum, 0.5 - 1e-9);
  EXPECT_LT(sum - least, 0.5 + 1e-9);
}

TEST(SamplerTest, RepetitionPenaltyIsThatOfTransformers) {
  const std::vector<float> logits = {2, -2, 1.5f};
  // 2 / 1.5 < 1.5: the seen token loses its lead.
  EXPECT_EQ(Sampler({.repetition_penalty = 1.5})
                .Sample(logits, std::vector<int32_t>{0, 0, 0}),
            2);
  const auto p = Distribution({.repetition_penalty = 1.5, .temperature = 1},
                              logits, {1, 1});
  EXPECT_NEAR(std::log(p.at(1) / p.at(0)), -2 * 1.5 - 2, 1e-6);
}

TEST(SamplerTest, BiasesAndPenaltiesOfWhatWasSampled) {
  const std::vector<float> logits = {1, 2, 3, 4};
  const auto best = [&](const SamplerOptions& options,
                        const std::vector<int32_t>& seen, int64_t prompt) {
    return Sampler(options).Sample(logits, seen, prompt);
  };
  EXPECT_EQ(best({.logit_bias = {{3, -100}, {0, 1.5}, {9, 5}}}, {}, 0), 2);
  // Of the prompt's tokens none counts.
  EXPECT_EQ(best({.presence_penalty = 1.5}, {3, 3}, 2), 3);
  EXPECT_EQ(best({.presence_penalty = 1.5}, {3, 3}, 1), 2);
  EXPECT_EQ(best({.frequency_penalty = 0.6}, {3, 3}, 1), 3);
  EXPECT_EQ(best({.frequency_penalty = 0.6}, {3, 3}, 0), 2);
  EXPECT_EQ(best({.presence_penalty = -2}, {1, 2, 2}, 1), 2);
}

TEST(SamplerTest, SeedsAreReproducible) {
  const SamplerOptions options = {.temperature = 1, .seed = 7};
  const SamplerOptions other = {.temperature = 1, .seed = 8};
  EXPECT_EQ(Draw(options, 100), Draw(options, 100));
  EXPECT_NE(Draw(options, 100), Draw(other, 100));
}

TEST(SamplerTest, DrawsFollowTheDistribution) {
  constexpr int kDraws = 10000;
  std::map<int32_t, int> counts;
  for (const int32_t token : Draw({.temperature = 1, .seed = 1}, kDraws)) {
    ++counts[token];
  }
  const double expected[] = {0.1, 0.4, 0.2, 0.3};
  double chi_square = 0;
  for (int32_t token = 0; token < 4; ++token) {
    const double mean = kDraws * expected[token];
    chi_square += std::pow(counts[token] - mean, 2) / mean;
  }
  EXPECT_LT(chi_square, 16.27);  // 3 degrees of freedom, 0.1 % above
}

TEST(SamplerTest, LogitsThatAreNotFiniteAreNeverChosen) {
  const std::vector<float> some = {kNaN, 1, kInfinity, 2, -kInfinity};
  EXPECT_EQ(Sampler({}).Sample(some, {}), 3);
  EXPECT_EQ(Distribution({.temperature = 1}, some).size(), 2u);
  const std::vector<float> none = {kNaN, kInfinity};
  for (const double temperature : {0.0, 1.0}) {
    EXPECT_THROW(Sampler({.temperature = temperature}).Sample(none, {}), Error);
  }
  // Temperatures near 0 overflow to the greedy choice.
  EXPECT_EQ(Sampler({.temperature = 1e-300}).Sample(kLogits, {}), 1);
}

TEST(SamplerTest, OptionsOutOfRangeAreRefused) {
  for (const SamplerOptions& options : {SamplerOptions{.repetition_penalty = 0},
                                        {.temperature = -1},
                                        {.temperature = kNaN},
                                        {.top_k = -1},
                                        {.top_p = 0},
                                        {.top_p = 1.1},
                                        {.top_p = kNaN},
                                        {.min_p = -0.1},
                                        {.min_p = 1.1}}) {
    EXPECT_THROW(Sampler{options}, Error);
  }
}

}  // namespace
}  // namespace mobe::sampler_test
