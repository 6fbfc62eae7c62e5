#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace mobe {
namespace {

std::vector<float> Logs(std::vector<double> probabilities, double shift) {
  std::vector<float> logits;
  for (const double p : probabilities) {
    logits.push_back(static_cast<float>(std::log(p) + shift));
  }
  return logits;
}

double Kl(const std::vector<float>& p, const std::vector<float>& q) {
  return KlDivergence(p, SoftmaxOf(p), q, SoftmaxOf(q));
}

TEST(StatisticsTest, Softmax) {
  // e^0 + e^1 + e^2 = 11.107337927389695.
  const Softmax softmax = SoftmaxOf(std::vector<float>{0, 2, 1});
  EXPECT_NEAR(softmax.log_sum, 2.4076059644443806, 1e-15);
  EXPECT_EQ(softmax.top, 1);
  EXPECT_EQ(SoftmaxOf(std::vector<float>{5, 7, 7}).top, 1);
  // Far beyond where exp overflows.
  EXPECT_NEAR(SoftmaxOf(std::vector<float>{9000, 9000}).log_sum,
              9000 + std::log(2.0), 1e-11);
}

TEST(StatisticsTest, LogitsThatAreNotFiniteShow) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(std::isfinite(SoftmaxOf(std::vector<float>{0, kNan}).log_sum));
  EXPECT_FALSE(std::isfinite(SoftmaxOf(std::vector<float>{kNan, 0}).log_sum));
  EXPECT_FALSE(std::isfinite(SoftmaxOf(std::vector<float>{kInf, 0}).log_sum));
  EXPECT_FALSE(std::isfinite(SoftmaxOf(std::vector<float>{-kInf}).log_sum));
  EXPECT_FALSE(std::isfinite(Kl({0, 0}, {0, -kInf})));
}

TEST(StatisticsTest, KlDivergence) {
  // 0.5 log(0.5 / 0.25) + 0.5 log(0.5 / 0.75), whatever the logits' shifts.
  const auto p = Logs({0.5, 0.5}, 3);
  const auto q = Logs({0.25, 0.75}, -20);
  EXPECT_NEAR(Kl(p, q), 0.14384103622589045, 1e-6);
  // 0.25 log(0.25 / 0.5) + 0.75 log(0.75 / 0.5).
  EXPECT_NEAR(Kl(q, p), 0.13081203594113697, 1e-6);
  EXPECT_EQ(Kl(q, q), 0);
}

TEST(StatisticsTest, SmallKlDivergenceIsExact) {
  // To second order the divergence is half the variance of the logits'
  // difference: here 0.5 * 1e-8 * 0.25; the third order is 0 for p = 1/2.
  const std::vector<float> p = {0, 0};
  const std::vector<float> q = {0, 1e-4f};
  EXPECT_NEAR(Kl(p, q), 1.25e-9, 1e-15);
}

TEST(StatisticsTest, Mean) {
  // Sample variance 5 / 3, divided by 4 values.
  const Estimate mean = Mean(std::vector<double>{1, 2, 3, 4});
  EXPECT_DOUBLE_EQ(mean.value, 2.5);
  EXPECT_DOUBLE_EQ(mean.error, std::sqrt(5.0 / 12));
  const Estimate single = Mean(std::vector<double>{7});
  EXPECT_EQ(single.value, 7);
  EXPECT_TRUE(std::isnan(single.error));
}

TEST(StatisticsTest, ExpOf) {
  const Estimate e = ExpOf({std::log(10.0), 0.02});
  EXPECT_DOUBLE_EQ(e.value, 10);
  EXPECT_DOUBLE_EQ(e.error, 0.2);
}

TEST(StatisticsTest, Share) {
  const Estimate share = Proportion(8, 10);
  EXPECT_DOUBLE_EQ(share.value, 0.8);
  EXPECT_DOUBLE_EQ(share.error, std::sqrt(0.16 / 9));
  EXPECT_EQ(Proportion(10, 10).error, 0);
}

TEST(StatisticsTest, Percentile) {
  const std::vector<double> values = {10, 20, 30, 50};
  EXPECT_DOUBLE_EQ(Percentile(values, 0), 10);
  EXPECT_DOUBLE_EQ(Percentile(values, 0.5), 25);
  EXPECT_DOUBLE_EQ(Percentile(values, 0.9), 44);  // position 2.7
  EXPECT_DOUBLE_EQ(Percentile(values, 1), 50);
  EXPECT_DOUBLE_EQ(Percentile(std::vector<double>{3}, 0.99), 3);
}

TEST(StatisticsTest, JackknifeOfAMeanIsItsError) {
  const double values[] = {1, 4, 2, 8, 5};
  std::vector<Sums> items;
  for (const double value : values) items.push_back({value, 1});
  const Estimate estimate = EstimateOf(items, MeanOfSums);
  EXPECT_NEAR(estimate.value, Mean(values).value, 1e-12);
  EXPECT_NEAR(estimate.error, Mean(values).error, 1e-12);
  EXPECT_TRUE(std::isnan(EstimateOf({{{1, 1}}}, MeanOfSums).error));
}

TEST(StatisticsTest, JackknifeOfDifferencesIsThatOfPairs) {
  // The second is the first and one more, so the difference is sure.
  const std::vector<Sums> base = {{1, 1}, {4, 1}, {2, 1}};
  const std::vector<Sums> items = {{2, 1}, {5, 1}, {3, 1}};
  const Estimate estimate = DifferenceOf(items, base, MeanOfSums);
  EXPECT_NEAR(estimate.value, 1, 1e-12);
  EXPECT_NEAR(estimate.error, 0, 1e-12);
}

}  // namespace
}  // namespace mobe
