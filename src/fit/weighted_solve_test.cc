#include "fit/weighted_solve.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "base/parallel.h"
#include "fit/testing.h"

namespace mobe::weighted_solve_test {
namespace {

constexpr int64_t kExperts = 4;
constexpr int64_t kRows = 5;
constexpr int64_t kCols = 12;
constexpr int64_t kTokens = 40;

Buffer<float> Random(int64_t size, uint64_t seed) {
  Buffer<float> values(size);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 1);
  for (float& value : values) value = normal(random);
  return values;
}

FitTarget PlainTarget() {
  FitTarget target;
  target.experts = kExperts;
  target.rows = kRows;
  target.cols = kCols;
  target.weights = Random(kExperts * kRows * kCols, 1);
  return target;
}

// Inputs whose channels differ in size; token t chose experts t % 3 and t / 9 %
// 3, so that expert 3 got none.
FitTarget CalibratedTarget() {
  FitTarget target = PlainTarget();
  Buffer<float> x = Random(kTokens * kCols, 2);
  for (int64_t i = 0; i < x.size(); ++i) x[i] *= 0.2f + (i % kCols) % 5;
  target.inputs.x.Resize(x.size());
  Kernels().to_bfloat16(x.data(), x.size(), target.inputs.x.data());
  Kernels().from_bfloat16(target.inputs.x.data(), x.size(), x.data());
  target.inputs.starts = {0};
  for (int32_t e = 0; e < kExperts; ++e) {
    for (int32_t t = 0; t < kTokens; ++t) {
      if (t % 3 != e && t / 9 % 3 != e) continue;
      target.inputs.tokens.push_back(t);
      target.inputs.weights.push_back(0.1f + 0.02f * static_cast<float>(t));
    }
    target.inputs.starts.push_back(
        static_cast<int64_t>(target.inputs.tokens.size()));
  }
  target.moment.Resize(kCols * kCols);
  double trace = 0;
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t k = 0; k < kCols; ++k) {
      trace += std::pow(x[t * kCols + k], 2) / kCols;
    }
  }
  for (int64_t i = 0; i < kCols; ++i) {
    for (int64_t j = 0; j < kCols; ++j) {
      double sum = 0;
      for (int64_t t = 0; t < kTokens; ++t) {
        sum += x[t * kCols + i] * x[t * kCols + j];
      }
      target.moment[i * kCols + j] = static_cast<float>(sum / trace);
    }
  }
  target.importance.Resize(kExperts);
  std::fill(target.importance.begin(), target.importance.end(), 1.0f);
  return target;
}

Factors SomeFactors() {
  Factors factors;
  factors.num_bases = 2;
  factors.rank = 3;
  factors.activation = Activation::kSilu;
  factors.a = Random(kExperts * kRows * 3, 3);
  factors.bases = Random(2 * 3 * kCols, 4);
  factors.alpha = Random(kExperts * 2, 5);
  return factors;
}

TEST(ExpertMomentTest, IsThatOfItsTokensWithSomeOfAll) {
  const FitTarget target = CalibratedTarget();
  Buffer<float> moment;
  for (int64_t e = 0; e < kExperts; ++e) {
    ExpertMoment(target, e, &moment);
    std::vector<double> own(kCols * kCols);
    const auto at = static_cast<size_t>(e);
    for (int64_t p = target.inputs.starts[at]; p < target.inputs.starts[at + 1];
         ++p) {
      const auto pair = static_cast<size_t>(p);
      const BFloat16* x =
          target.inputs.x.data() + target.inputs.tokens[pair] * kCols;
      const double square = std::pow(double{target.inputs.weights[pair]}, 2);
      for (int64_t i = 0; i < kCols; ++i) {
        for (int64_t j = 0; j < kCols; ++j) {
          own[static_cast<size_t>(i * kCols + j)] +=
              square * ToFloat(x[i]) * ToFloat(x[j]);
        }
      }
    }
    double mean = 0;
    for (size_t k = 0; k < kCols; ++k) mean += own[k * (kCols + 1)] / kCols;
    EXPECT_EQ(mean == 0, e == 3);
    for (int64_t i = 0; i < kCols * kCols; ++i) {
      const double floor = i % (kCols + 1) == 0 ? 0.01 : 0;
      const auto chose = static_cast<double>(target.inputs.starts[at + 1] -
                                             target.inputs.starts[at]);
      const double shared = kCols / (kCols + chose);
      const double expected =
          floor + (mean == 0
                       ? target.moment[i]
                       : shared * target.moment[i] +
                             (1 - shared) * own[static_cast<size_t>(i)] / mean);
      EXPECT_NEAR(moment[i], expected, 1e-5) << e << " " << i;
    }
  }
}

TEST(WeightedSolveTest, NoOtherAIsBetter) {
  for (const FitTarget& target : {PlainTarget(), CalibratedTarget()}) {
    Factors factors = SomeFactors();
    const double before = MeasureWeighted(target, factors);
    SolveWeightedA(target, &factors);
    const double best = MeasureWeighted(target, factors);
    EXPECT_LT(best, before);
    EXPECT_LT(best, 1);  // A = 0
    for (int64_t i = 0; i < factors.a.size(); ++i) {
      for (const float step : {0.05f, -0.05f}) {
        const float a = factors.a[i];
        factors.a[i] += step;
        EXPECT_GT(MeasureWeighted(target, factors), best) << i;
        factors.a[i] = a;
      }
    }
  }
}

// The weight matters: what is best without it is worse with it, and the other
// way round.
TEST(WeightedSolveTest, DiffersFromThePlainSolution) {
  const FitTarget plain = PlainTarget();
  const FitTarget weighed = CalibratedTarget();
  Factors a = SomeFactors();
  Factors b = SomeFactors();
  SolveWeightedA(plain, &a);
  SolveWeightedA(weighed, &b);
  EXPECT_LT(MeasureWeighted(weighed, b), 0.99 * MeasureWeighted(weighed, a));
  EXPECT_LT(MeasureWeighted(plain, a), 0.99 * MeasureWeighted(plain, b));
}

TEST(WeightedSolveTest, PlainErrorIsTheRelativeError) {
  const FitTarget target = PlainTarget();
  const Factors factors = SomeFactors();
  const double relative = MeasureFit(target, factors).relative;
  EXPECT_NEAR(MeasureWeighted(target, factors), relative * relative,
              1e-5 * relative * relative);
}

TEST(WeightedSolveTest, SameForAnyNumberOfThreads) {
  const FitTarget target = CalibratedTarget();
  Factors one = SomeFactors();
  Factors three = SomeFactors();
  SetThreads(1);
  SolveWeightedA(target, &one);
  SetThreads(3);
  SolveWeightedA(target, &three);
  SetThreads(0);
  EXPECT_TRUE(std::equal(one.a.begin(), one.a.end(), three.a.begin()));
}

}  // namespace
}  // namespace mobe::weighted_solve_test
