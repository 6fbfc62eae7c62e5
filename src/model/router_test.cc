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

Routing RouteOne(std::vector<float> logits, int64_t picks, bool normalise) {
  Routing routing;
  Route(logits.data(), 1, static_cast<int64_t>(logits.size()), picks, normalise,
        &routing);
  return routing;
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

}  // namespace
}  // namespace mobe
