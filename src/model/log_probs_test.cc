#include "model/log_probs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace mobe {
namespace {

TEST(LogProbsTest, AreThoseOfTheSoftmax) {
  const float logits[] = {1, 3, 2, 3};
  const double log_sum =
      std::log(std::exp(1.0) + 2 * std::exp(3.0) + std::exp(2.0));
  const LogProbs found = LogProbsOf(logits, 0, 3);
  EXPECT_NEAR(found.log_prob, 1 - log_sum, 1e-12);
  ASSERT_EQ(found.top.size(), 3U);
  EXPECT_EQ(found.top[0].token, 1);
  EXPECT_EQ(found.top[1].token, 3);
  EXPECT_EQ(found.top[2].token, 2);
  EXPECT_NEAR(found.top[1].log_prob, 3 - log_sum, 1e-12);
}

TEST(LogProbsTest, TakesWhatThereIs) {
  const float inf = std::numeric_limits<float>::infinity();
  const float logits[] = {900, -inf, std::nanf(""), 900};
  const LogProbs found = LogProbsOf(logits, 3, 9);
  EXPECT_NEAR(found.log_prob, -std::log(2.0), 1e-12);
  EXPECT_EQ(found.top.size(), 2U);
}

}  // namespace
}  // namespace mobe
