#include "fit/refit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <random>
#include <vector>

#include "base/error.h"
#include "fit/diagonal.h"
#include "fit/pass.h"
#include "fit/testing.h"
#include "fit/weighted_solve.h"
#include "kernels/gemm.h"

namespace mobe::refit_test {
namespace {

constexpr int64_t kExperts = 8;
constexpr int64_t kRows = 12;
constexpr int64_t kCols = 40;
constexpr int64_t kBases = 3;
constexpr int64_t kTokens = 200;

// Noise, of experts that read different tokens and are of unequal importance.
FitTarget Target() {
  FitTarget target = RandomTarget(kExperts, kRows, kCols);
  std::mt19937_64 random(2);
  Buffer<float> x(kTokens * kCols);
  Fill(&random, 1, &x);
  target.moment.Resize(kCols * kCols);
  target.inputs.x.Resize(x.size());
  for (int64_t i = 0; i < x.size(); ++i) {
    x[i] *= static_cast<float>(1 + i % kCols) / kCols;  // columns are unequal
    target.inputs.x[i] = ToBFloat16(x[i]);
  }
  Gemm(Trans::kYes, Trans::kNo, kCols, kCols, kTokens, x.data(), kCols,
       x.data(), kCols, 0.0f, target.moment.data(), kCols);
  ScaleToMeanOne(kCols + 1, &target.moment);
  target.importance.Resize(kExperts);
  for (int64_t e = 0; e < kExperts; ++e) {
    target.importance[e] = static_cast<float>(e + 1);
    target.inputs.starts.push_back(std::ssize(target.inputs.tokens));
    for (int64_t t = e; t < kTokens; t += 3 + e) {
      target.inputs.tokens.push_back(static_cast<int32_t>(t));
      target.inputs.weights.push_back(0.5f);
    }
  }
  target.inputs.starts.push_back(std::ssize(target.inputs.tokens));
  ScaleToMeanOne(1, &target.importance);
  return target;
}

Factors FactorsOf(const FitTarget& target, Activation activation) {
  FitOptions options;
  options.num_bases = kBases;
  options.rank = kRows;
  options.activation = activation;
  options.passes = 60;
  options.stored = DType::kF32;
  return Fit(target, options, [](int64_t, int64_t, double) {});
}

// To whole multiples of a third of each row's largest number.
void RoundCoarsely(Buffer<float>* bases) {
  for (int64_t row = 0; row < bases->size(); row += kCols) {
    float most = 0;
    for (int64_t i = row; i < row + kCols; ++i) {
      most = std::max(most, std::abs((*bases)[i]));
    }
    for (int64_t i = row; i < row + kCols; ++i) {
      (*bases)[i] = std::round((*bases)[i] / most * 3) * most / 3;
    }
  }
}

// Of the factors with their bases rounded and the best A.
double LossOf(const FitTarget& target, const Factors& factors) {
  Factors rounded;
  rounded.num_bases = factors.num_bases;
  rounded.rank = factors.rank;
  rounded.activation = factors.activation;
  rounded.alpha.CopyFrom(factors.alpha);
  rounded.bases.CopyFrom(factors.bases);
  RoundCoarsely(&rounded.bases);
  SolveWeightedA(target, &rounded);
  return MeasureWeighted(target, rounded);
}

const RefitPassFn kIgnore = [](int64_t, int64_t) {};

class RefitTest : public ::testing::TestWithParam<Activation> {
 private:
  OneThread one_thread_;
};

TEST_P(RefitTest, RoundedBasesServeBetter) {
  const FitTarget target = Target();
  Factors factors = FactorsOf(target, GetParam());
  const double before = LossOf(target, factors);
  Refit(target, kRefitPasses, RoundCoarsely, kIgnore, &factors);
  EXPECT_LT(LossOf(target, factors), 0.85 * before);
}

TEST_P(RefitTest, BasesThatAnExpertDoesNotUseStaySo) {
  const FitTarget target = Target();
  Factors factors = FactorsOf(target, GetParam());
  for (int64_t e = 0; e < kExperts; ++e) {
    factors.alpha[e * kBases + e % kBases] = 0;
  }
  Refit(target, 8, RoundCoarsely, kIgnore, &factors);
  for (int64_t e = 0; e < kExperts; ++e) {
    for (int64_t i = 0; i < kBases; ++i) {
      EXPECT_EQ(factors.alpha[e * kBases + i] == 0, i == e % kBases);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Activations, RefitTest,
                         ::testing::Values(Activation::kIdentity,
                                           Activation::kSilu,
                                           Activation::kTanh));

TEST(RefitAloneTest, TheSameOnAnyNumberOfThreads) {
  const FitTarget target = Target();
  Factors one = FactorsOf(target, Activation::kIdentity);
  Factors two = FactorsOf(target, Activation::kIdentity);
  SetThreads(1);
  Refit(target, 6, RoundCoarsely, kIgnore, &one);
  SetThreads(3);
  Refit(target, 6, RoundCoarsely, kIgnore, &two);
  SetThreads(0);
  EXPECT_TRUE(Same(one.bases, two.bases));
  EXPECT_TRUE(Same(one.alpha, two.alpha));
}

TEST(RefitAloneTest, StaysWherePassesBringNothing) {
  const OneThread one_thread;
  const FitTarget target = Target();
  Factors factors = FactorsOf(target, Activation::kSilu);
  Buffer<float> bases;
  bases.CopyFrom(factors.bases);
  for (const int64_t passes : {0, 4}) {
    // What is rounded to nothing has no gradient to follow, and no better
    // place.
    Refit(
        target, passes,
        [](Buffer<float>* rounded) {
          std::fill(rounded->begin(), rounded->end(), 0.0f);
        },
        kIgnore, &factors);
    EXPECT_TRUE(Same(factors.bases, bases));
  }
}

TEST(RefitAloneTest, IsToldOfEachPassAndMayBeStopped) {
  const OneThread one_thread;
  const FitTarget target = Target();
  Factors factors = FactorsOf(target, Activation::kIdentity);
  std::vector<int64_t> told;
  const auto tell = [&](int64_t pass, int64_t passes) {
    EXPECT_EQ(passes, 5);
    told.push_back(pass);
    if (pass == 4) Fail(ErrorKind::kUserInput, "stopped");
  };
  EXPECT_THROW(Refit(target, 5, RoundCoarsely, tell, &factors), Error);
  EXPECT_EQ(told, (std::vector<int64_t>{1, 2, 3, 4}));
}

// The pass that it is made of, against weighted_solve.h and differences.
class OwnNormTest : public ::testing::TestWithParam<int64_t> {
 protected:
  OwnNormTest() : target_(Target()) {
    factors_ = FactorsOf(target_, Activation::kTanh);
    options_.num_bases = kBases;
    options_.rank = kRows;
  }
  OneThread one_thread_;
  FitTarget target_;
  Factors factors_;
  FitOptions options_;
};

TEST_P(OwnNormTest, ErrorIsThatOfTheWeightedSolve) {
  internal::FitPass pass(target_, options_, internal::InputNorm::kExpert,
                         GetParam());
  SolveWeightedA(target_, &factors_);
  double all = 0;
  Buffer<float> moment;
  Buffer<float> product;
  for (int64_t e = 0; e < kExperts; ++e) {
    ExpertMoment(target_, e, &moment);
    all += target_.importance[e] *
           WeighedSquare(target_.matrix(e), kRows, kCols, moment, &product);
  }
  const double want = MeasureWeighted(target_, factors_) * all /
                      (target_.scale * target_.scale) /
                      static_cast<double>(target_.weights.size());
  EXPECT_NEAR(pass.Measure(Precision::kFloat32, factors_), want, 2e-3 * want);
}

TEST_P(OwnNormTest, GradientIsThatOfTheError) {
  internal::FitPass pass(target_, options_, internal::InputNorm::kExpert,
                         GetParam());
  Buffer<float> d_bases(factors_.bases.size());
  Buffer<float> d_alpha(factors_.alpha.size());
  pass.Differentiate(Precision::kFloat32, factors_, d_bases.data(),
                     d_alpha.data());
  // Along the gradient itself, by a step that moves the error by little.
  const auto slope = [&](Buffer<float>* values, const Buffer<float>& gradient) {
    double square = 0;
    for (const float g : gradient) square += static_cast<double>(g) * g;
    const auto n = static_cast<double>(target_.weights.size());
    const double error = pass.Measure(Precision::kFloat32, factors_);
    const double step = 0.002 * error * n / square;
    Buffer<float> kept;
    kept.CopyFrom(*values);
    const auto at = [&](double length) {
      for (int64_t i = 0; i < kept.size(); ++i) {
        (*values)[i] = kept[i] + static_cast<float>(length * gradient[i]);
      }
      return pass.Measure(Precision::kFloat32, factors_);
    };
    const double measured = (at(step) - at(-step)) / (2 * step) * n / 2;
    values->CopyFrom(kept);
    return measured / square;
  };
  EXPECT_NEAR(slope(&factors_.bases, d_bases), 1, 0.02);
  EXPECT_NEAR(slope(&factors_.alpha, d_alpha), 1, 0.02);
}

// Roots kept, and made anew.
INSTANTIATE_TEST_SUITE_P(Roots, OwnNormTest,
                         ::testing::Values(internal::kMostRoots, 0));

}  // namespace
}  // namespace mobe::refit_test
