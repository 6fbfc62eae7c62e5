#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <numbers>
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
  yarn.type = RopeType::kYarn;
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
  yarn.type = RopeType::kYarn;
  yarn.factor = 32;
  yarn.original_positions = 4096;
  yarn.beta_fast = yarn.beta_slow = 1;
  // floor and ceil of 19.16: pairs to 19 are as they were.
  EXPECT_FLOAT_EQ(AngleOf(yarn, 19), AngleOf(plain, 19));
  EXPECT_NEAR(AngleOf(yarn, 20), AngleOf(plain, 20) / 32, 1e-9);
}

TEST(RopeTest, LinearSlowsEveryPair) {
  const Rope plain = RopeOf(64, 10000);
  Rope linear = plain;
  linear.type = RopeType::kLinear;
  linear.factor = 4;
  for (const int64_t i : {0, 15, 31}) {
    EXPECT_FLOAT_EQ(AngleOf(linear, i), AngleOf(plain, i) / 4) << i;
  }
}

TEST(RopeTest, LongRopeSlowsEachPairByItsOwnFactor) {
  const Rope plain = RopeOf(6, 10000);
  Rope slow = plain;
  slow.type = RopeType::kLongRope;
  slow.pair_factors = {1, 1.5, 4};
  for (const int64_t i : {0, 1, 2}) {
    EXPECT_FLOAT_EQ(
        AngleOf(slow, i),
        AngleOf(plain, i) /
            static_cast<float>(slow.pair_factors[static_cast<size_t>(i)]))
        << i;
  }
}

// Llama 3.1's: 128 numbers, theta 500000, 8 times 8192 positions.
TEST(RopeTest, Llama3SlowsByTurns) {
  const Rope plain = RopeOf(128, 500000);
  Rope llama = plain;
  llama.type = RopeType::kLlama3;
  llama.factor = 8;
  llama.original_positions = 8192;
  llama.beta_fast = 4;
  llama.beta_slow = 1;
  // Pair 28 makes 4.19 turns, pair 36 makes 0.81; between them pair 32 makes
  // 1.84, so its ramp is at 0.28.
  EXPECT_FLOAT_EQ(AngleOf(llama, 28), AngleOf(plain, 28));
  EXPECT_NEAR(AngleOf(llama, 36), AngleOf(plain, 36) / 8, 1e-9);
  const double turns = 8192 * AngleOf(plain, 32) / (2 * std::numbers::pi);
  const double fast = (turns - 1) / 3;
  EXPECT_NEAR(fast, 0.28, 0.01);
  EXPECT_NEAR(AngleOf(llama, 32), AngleOf(plain, 32) * (fast + (1 - fast) / 8),
              1e-8);
}

}  // namespace
}  // namespace mobe
