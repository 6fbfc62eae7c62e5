#include "model/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace mobe {
namespace {

using testing::ElementsAre;
using testing::FloatNear;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

Routing RouteOne(const RouterRule& rule, std::vector<float> logits,
                 int64_t picks, std::vector<float> bias = {}) {
  ModelConfig config;
  config.num_experts = static_cast<int64_t>(logits.size());
  config.experts_per_token = picks;
  config.router = rule;
  Routing routing;
  Route(config, bias, logits.data(), 1, &routing);
  return routing;
}

Routing RouteOne(const std::vector<float>& logits, int64_t picks,
                 bool normalise) {
  RouterRule rule;
  rule.normalise = normalise;
  return RouteOne(rule, logits, picks);
}

// A logit whose sigmoid is p.
float Logit(double p) { return static_cast<float>(std::log(p / (1 - p))); }

std::vector<float> Logits(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(Logit(p));
  return logits;
}

TEST(RouterTest, PicksTheLargestAndSortsByExpert) {
  const std::vector<float> logits = {std::log(1.0f), std::log(4.0f),
                                     std::log(2.0f), std::log(3.0f)};
  const Routing plain = RouteOne(logits, 2, false);
  EXPECT_THAT(plain.experts, ElementsAre(1, 3));
  EXPECT_THAT(plain.weights,
              ElementsAre(FloatNear(0.4f, 1e-6f), FloatNear(0.3f, 1e-6f)));
  const Routing normalised = RouteOne(logits, 2, true);
  EXPECT_THAT(normalised.weights, ElementsAre(FloatNear(4 / 7.0f, 1e-6f),
                                              FloatNear(3 / 7.0f, 1e-6f)));
}

TEST(RouterTest, TheLowestOfEqualsWins) {
  EXPECT_THAT(RouteOne({1, 2, 1, 2, 1}, 3, true).experts, ElementsAre(0, 1, 3));
}

TEST(RouterTest, PicksStayValidWithoutNumbers) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& logits :
       {std::vector<float>{kNaN, kNaN, kNaN, kNaN},
        {1, kNaN, 2, 3},
        {kInfinity, 1, kInfinity, 2},
        {-kInfinity, -kInfinity, -kInfinity, -kInfinity}}) {
    const Routing routing = RouteOne(logits, 3, true);
    EXPECT_GE(routing.experts[0], 0);
    EXPECT_LT(routing.experts[0], routing.experts[1]);
    EXPECT_LT(routing.experts[1], routing.experts[2]);
    EXPECT_LE(routing.experts[2], 3);
  }
}

TEST(RouterTest, BiasPicksButDoesNotWeigh) {
  RouterRule rule;
  rule.scoring = Scoring::kSigmoid;
  rule.bias = true;
  rule.normalise = true;
  rule.scale = 2.5f;
  const Routing routing =
      RouteOne(rule, Logits({0.9, 0.2, 0.5, 0.3}), 2, {-0.9f, 0.5f, 0, 0});
  EXPECT_THAT(routing.experts, ElementsAre(1, 2));
  EXPECT_THAT(routing.weights,
              ElementsAre(FloatNear(2.5f * 0.2f / 0.7f, 1e-6f),
                          FloatNear(2.5f * 0.5f / 0.7f, 1e-6f)));
}

TEST(RouterTest, GroupsByTheirBestTwoOrTheBest) {
  RouterRule rule;
  rule.scoring = Scoring::kSigmoid;
  rule.groups = 2;
  rule.kept_groups = 1;
  const std::vector<float> logits = Logits({0.9, 0.1, 0.2, 0.6, 0.7, 0.1});
  EXPECT_THAT(RouteOne(rule, logits, 2).experts, ElementsAre(0, 2));
  rule.bias = true;
  EXPECT_THAT(RouteOne(rule, logits, 2, std::vector<float>(6, 0.0f)).experts,
              ElementsAre(3, 4));
}

// One that is kept may have a negative score.
TEST(RouterTest, ALeftOutGroupNeverWins) {
  RouterRule rule;
  rule.scoring = Scoring::kSigmoid;
  rule.bias = true;
  rule.groups = 2;
  rule.kept_groups = 1;
  const std::vector<float> logits = Logits({0.9, 0.1, 0.2, 0.2});
  const Routing routing = RouteOne(rule, logits, 2, {0, -0.3f, 0, 0});
  EXPECT_THAT(routing.experts, ElementsAre(0, 1));
}

}  // namespace
}  // namespace mobe
