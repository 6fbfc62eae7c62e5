#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

namespace mobe {
namespace {

Rope RopeOf(int64_t dim, double theta) {
  Rope rope;
  rope.dim = dim;
  rope.theta = theta;
  return rope;
}

TEST(RopeTest, RotatesPairsOfHalves) {
  RopeTable rope(RopeOf(4, 100));
  rope.Prepare(std::vector<int64_t>{5, 3, 7});
  float head[] = {1, 2, 3, 4};
  rope.Rotate(2, head);  // position 7; angles 7 and 0.7
  EXPECT_NEAR(head[0], std::cos(7.0) - 3 * std::sin(7.0), 1e-6);
  EXPECT_NEAR(head[2], 3 * std::cos(7.0) + std::sin(7.0), 1e-6);
  EXPECT_NEAR(head[1], 2 * std::cos(0.7) - 4 * std::sin(0.7), 1e-6);
  EXPECT_NEAR(head[3], 4 * std::cos(0.7) + 2 * std::sin(0.7), 1e-6);
}

TEST(RopeTest, RotatesNeighbours) {
  Rope config = RopeOf(4, 100);
  config.interleaved = true;
  config.amplitude = 2;
  RopeTable rope(config);
  rope.Prepare(std::vector<int64_t>{5, 3, 7});
  float head[] = {1, 2, 3, 4};
  rope.Rotate(2, head);  // position 7; angles 7 and 0.7
  EXPECT_NEAR(head[0], 2 * (std::cos(7.0) - 2 * std::sin(7.0)), 1e-6);
  EXPECT_NEAR(head[1], 2 * (2 * std::cos(7.0) + std::sin(7.0)), 1e-6);
  EXPECT_NEAR(head[2], 2 * (3 * std::cos(0.7) - 4 * std::sin(0.7)), 1e-6);
  EXPECT_NEAR(head[3], 2 * (4 * std::cos(0.7) + 3 * std::sin(0.7)), 1e-6);
}

// The angle by which position 1 turns pair i, of a head of unit vectors.
float AngleOf(const Rope& config, int64_t i) {
  RopeTable rope(config);
  rope.Prepare(std::vector<int64_t>{1});
  std::vector<float> head(static_cast<size_t>(config.dim));
  head[static_cast<size_t>(i)] = 1;
  rope.Rotate(0, head.data());
  return std::atan2(head[static_cast<size_t>(i + config.dim / 2)],
                    head[static_cast<size_t>(i)]);
}

// DeepSeek-V3's: 64 numbers, theta 10000, 40 times 4096 positions. Turns in
// 4096 positions fall from 652; pair 10 makes 36.6, pair 23 makes 0.87.
TEST(RopeTest, YarnSlowsThePairsWithFewTurns) {
  const Rope plain = RopeOf(64, 10000);
  Rope yarn = plain;
  yarn.factor = 40;
  yarn.original_positions = 4096;
  yarn.beta_fast = 32;
  yarn.beta_slow = 1;
  for (const int64_t i : {0, 5, 10}) {
    EXPECT_FLOAT_EQ(AngleOf(yarn, i), AngleOf(plain, i)) << i;
  }
  for (const int64_t i : {23, 31}) {
    EXPECT_NEAR(AngleOf(yarn, i), AngleOf(plain, i) / 40,
                1e-6 * AngleOf(plain, i))
        << i;
  }
  // The ramp goes from pair 10 to 23: 5 / 13 of it at pair 15.
  const double slow = 5.0 / 13;
  EXPECT_NEAR(AngleOf(yarn, 15), AngleOf(plain, 15) * (slow / 40 + (1 - slow)),
              1e-7);
}

// Kimi-K2: beta_fast and beta_slow are both 1, so the ramp is a step.
TEST(RopeTest, YarnWithoutRamp) {
  const Rope plain = RopeOf(64, 50000);
  Rope yarn = plain;
  yarn.factor = 32;
  yarn.original_positions = 4096;
  yarn.beta_fast = yarn.beta_slow = 1;
  // floor and ceil of 19.16: pairs to 19 are as they were.
  EXPECT_FLOAT_EQ(AngleOf(yarn, 19), AngleOf(plain, 19));
  EXPECT_NEAR(AngleOf(yarn, 20), AngleOf(plain, 20) / 32, 1e-9);
}

}  // namespace
}  // namespace mobe
