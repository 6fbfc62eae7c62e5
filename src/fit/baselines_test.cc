#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "base/parallel.h"
#include "fit/method.h"
#include "fit/testing.h"

namespace mobe::baselines_test {
namespace {

constexpr FitShape kShape = {
    .experts = 6, .rows = 5, .cols = 12, .num_bases = 3};

FitTarget RandomTarget() {
  FitTarget target;
  target.experts = kShape.experts;
  target.rows = kShape.rows;
  target.cols = kShape.cols;
  target.weights.Resize(target.experts * target.matrix_size());
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(0.3f, 1);
  for (float& value : target.weights) value = normal(random);
  return target;
}

// The layer's moment, one channel of which dwarfs the others.
FitTarget CalibratedTarget() {
  FitTarget target = RandomTarget();
  target.moment.Resize(target.cols * target.cols);
  std::fill(target.moment.begin(), target.moment.end(), 0.0f);
  for (int64_t k = 0; k < target.cols; ++k) {
    target.moment[k * (target.cols + 1)] = k == 3 ? 9.8f : 0.2f;
  }
  target.importance.Resize(target.experts);
  for (int64_t e = 0; e < target.experts; ++e) {
    target.importance[e] = e == 0 ? 5.0f : 0.2f;
  }
  return target;
}

double Error(const FitTarget& target, const Buffer<float>& product) {
  return MeasureDifference(target,
                           [&](int64_t e, float* matrix) {
                             std::copy_n(
                                 product.data() + e * target.matrix_size(),
                                 target.matrix_size(), matrix);
                           })
      .relative;
}

Buffer<float> Approximate(const Method& baseline, const FitTarget& target,
                          int64_t rank) {
  return baseline.approximate(
      target,
      {.num_bases = kShape.num_bases, .rank = rank, .stored = DType::kF32});
}

class BaselineTest : public testing::TestWithParam<const char*> {
 protected:
  const Method& baseline() const { return *FindMethod(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(All, BaselineTest,
                         testing::Values("svd", "molae", "d2moe"),
                         [](const auto& param) {
                           return std::string(param.param);
                         });

TEST_P(BaselineTest, ErrorFallsWithTheRankToNothing) {
  const FitTarget target = RandomTarget();
  const int64_t full = baseline().max_rank(kShape);
  double last = 1;
  for (int64_t rank = 1; rank <= full; ++rank) {
    const double error = Error(target, Approximate(baseline(), target, rank));
    EXPECT_LT(error, last) << rank;
    last = error;
  }
  EXPECT_LT(last, 1e-5);
}

TEST_P(BaselineTest, RankIsTheLargestWithinTheBudget) {
  for (int64_t budget = 200; budget < 700; budget += 7) {
    const int64_t rank = RankForBudget(baseline(), kShape, budget);
    FitShape shape = kShape;
    shape.rank = rank;
    EXPECT_LE(baseline().numbers(shape), budget);
    if (rank == baseline().max_rank(kShape)) continue;
    ++shape.rank;
    EXPECT_GT(baseline().numbers(shape), budget);
  }
  ExpectError(ErrorKind::kUserInput, "keep a larger share",
              [&] { RankForBudget(baseline(), kShape, 60); });
}

TEST_P(BaselineTest, SameForAnyNumberOfThreads) {
  const FitTarget target = CalibratedTarget();
  SetThreads(1);
  const Buffer<float> one = Approximate(baseline(), target, 2);
  SetThreads(3);
  const Buffer<float> three = Approximate(baseline(), target, 2);
  SetThreads(0);
  EXPECT_TRUE(std::equal(one.begin(), one.end(), three.begin()));
}

TEST(BaselinesTest, FactorsAreRounded) {
  const FitTarget target = RandomTarget();
  for (const Method* baseline : Baselines()) {
    const Buffer<float> product =
        baseline->approximate(target, {.num_bases = kShape.num_bases,
                                       .rank = baseline->max_rank(kShape),
                                       .stored = DType::kBF16});
    const double error = Error(target, product);
    EXPECT_GT(error, 1e-4) << baseline->name;
    EXPECT_LT(error, 1e-2) << baseline->name;
  }
}

// With a base for what the experts share, a rank is left for what they don't.
TEST(BaselinesTest, D2MoeIsExactWhenDeltasHaveTheRank) {
  FitTarget target = RandomTarget();
  std::mt19937_64 random(2);
  std::normal_distribution<float> normal(0, 1);
  const int64_t size = target.matrix_size();
  for (int64_t e = 1; e < target.experts; ++e) {
    std::copy_n(target.matrix(0), size, target.weights.data() + e * size);
  }
  // Deltas of rank 1 that share their column vector, so that those to the mean
  // have rank 1 too.
  for (int64_t e = 0; e < target.experts; ++e) {
    for (int64_t k = 0; k < target.cols; ++k) {
      const float delta = normal(random);
      for (int64_t i = 0; i < target.rows; ++i) {
        target.weights[e * size + i * target.cols + k] +=
            delta * static_cast<float>(i + 1);
      }
    }
  }
  const auto error = [&](const char* name) {
    return Error(target, Approximate(*FindMethod(name), target, 1));
  };
  EXPECT_LT(error("d2moe"), 1e-5);
  EXPECT_GT(error("svd"), 1e-2);
}

// The channel that is read most comes out best, the most important expert too.
TEST(BaselinesTest, CalibrationMovesTheError) {
  const FitTarget plain = RandomTarget();
  const FitTarget calibrated = CalibratedTarget();
  const auto error_of = [&](const Buffer<float>& product, int64_t expert,
                            int64_t channel) {
    double sum = 0;
    for (int64_t e = 0; e < plain.experts; ++e) {
      for (int64_t i = 0; i < plain.matrix_size(); ++i) {
        if ((expert >= 0 && e != expert) ||
            (channel >= 0 && i % plain.cols != channel)) {
          continue;
        }
        const int64_t at = e * plain.matrix_size() + i;
        sum += std::pow(product[at] - plain.weights[at], 2);
      }
    }
    return sum;
  };
  for (const char* name : {"svd", "d2moe"}) {
    const Method& baseline = *FindMethod(name);
    const Buffer<float> a = Approximate(baseline, plain, 2);
    const Buffer<float> b = Approximate(baseline, calibrated, 2);
    EXPECT_LT(error_of(b, -1, 3), 0.5 * error_of(a, -1, 3)) << name;
    EXPECT_GT(error_of(b, -1, -1), error_of(a, -1, -1)) << name;
  }
  FitTarget important = CalibratedTarget();
  important.moment = {};
  const Method& d2moe = *FindMethod("d2moe");
  EXPECT_LT(error_of(Approximate(d2moe, important, 1), 0, -1),
            error_of(Approximate(d2moe, plain, 1), 0, -1));
}

}  // namespace
}  // namespace mobe::baselines_test
