#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "fit/fit.h"
#include "fit/method.h"
#include "fit/testing.h"

namespace mobe::variants_test {
namespace {

using internal::ApplyVariants;
using internal::SolveA;

constexpr int64_t kExperts = 8;
constexpr int64_t kRows = 6;
constexpr int64_t kCols = 24;
constexpr int64_t kBases = 4;

Factors SomeFactors(Activation activation) {
  return RandomFactors(activation, kExperts, kRows, kCols, kBases, 1);
}

FitTarget TargetOf(const Factors& factors) {
  return mobe::TargetOf(factors, kExperts, kRows, kCols);
}

FitOptions Options(int64_t basis_rank, int64_t max_alphas) {
  FitOptions options;
  options.num_bases = kBases;
  options.rank = kRows;
  options.basis_rank = basis_rank;
  options.max_alphas = max_alphas;
  options.passes = 3;
  options.stored = DType::kF32;
  return options;
}

class FitVariantsTest : public ::testing::Test {
  const OneThread one_thread_;
};

TEST_F(FitVariantsTest, SolveAFindsA) {
  for (const Activation f :
       {Activation::kSilu, Activation::kTanh, Activation::kIdentity}) {
    Factors factors = SomeFactors(f);
    const FitTarget target = TargetOf(factors);
    std::fill(factors.a.begin(), factors.a.end(), 0.0f);
    SolveA(target, &factors);
    EXPECT_LT(MeasureFit(target, factors).relative, 1e-4);
  }
}

TEST_F(FitVariantsTest, NothingAskedNothingDone) {
  const Factors before = SomeFactors(Activation::kSilu);
  const FitTarget target = TargetOf(SomeFactors(Activation::kTanh));
  for (const int64_t max_alphas : {int64_t{0}, kBases}) {
    Factors factors = SomeFactors(Activation::kSilu);
    ApplyVariants(target, Options(0, max_alphas), &factors);
    EXPECT_TRUE(Same(factors.a, before.a));
    EXPECT_TRUE(Same(factors.bases, before.bases));
    EXPECT_TRUE(Same(factors.alpha, before.alpha));
    EXPECT_EQ(factors.basis_rank, 0);
    EXPECT_EQ(factors.bases_left.size(), 0);
  }
}

// Bases that have that rank already come out as they are.
TEST_F(FitVariantsTest, LowRankBasesAreKept) {
  constexpr int64_t kRank = 2;
  Factors factors = SomeFactors(Activation::kTanh);
  factors.basis_rank = kRank;
  factors.bases_left.Resize(kBases * kRows * kRank);
  factors.bases_right.Resize(kBases * kRank * kCols);
  std::mt19937_64 random(4);
  Fill(&random, 1, &factors.bases_left);
  Fill(&random, 1, &factors.bases_right);
  MultiplyBases(kCols, &factors);
  const FitTarget target = TargetOf(factors);
  Buffer<float> bases;
  bases.CopyFrom(factors.bases);
  ApplyVariants(target, Options(kRank, 0), &factors);
  for (int64_t j = 0; j < bases.size(); ++j) {
    ASSERT_NEAR(factors.bases[j], bases[j], 1e-5);
  }
  EXPECT_LT(MeasureFit(target, factors).relative, 1e-4);
  // At full rank any bases do.
  factors = SomeFactors(Activation::kTanh);
  const FitTarget other = TargetOf(factors);
  ApplyVariants(other, Options(kRows, 0), &factors);
  EXPECT_LT(MeasureFit(other, factors).relative, 1e-4);
}

// More rank is never worse, and what is cut is the smallest part: for a basis
// with singular values 2 and 1, one of rank 1 is off by 1.
TEST_F(FitVariantsTest, LowRankBasesAreTheNearest) {
  Factors factors = SomeFactors(Activation::kIdentity);
  std::fill(factors.bases.begin(), factors.bases.end(), 0.0f);
  for (int64_t i = 0; i < kBases; ++i) {
    float* basis = factors.bases.data() + i * kRows * kCols;
    basis[i] = 2;              // row 0
    basis[kCols + i + 1] = 1;  // row 1
  }
  ApplyVariants(TargetOf(SomeFactors(Activation::kIdentity)), Options(1, 0),
                &factors);
  for (int64_t i = 0; i < kBases; ++i) {
    const float* basis = factors.bases.data() + i * kRows * kCols;
    for (int64_t j = 0; j < kRows * kCols; ++j) {
      EXPECT_NEAR(basis[j], j == i ? 2 : 0, 1e-5);
    }
  }
}

// The largest are kept, whatever share of it is in B, and what is left of the
// mix is at right angles to their bases.
TEST_F(FitVariantsTest, SparseAlphaIsTheNearest) {
  constexpr int64_t kKept = 2;
  constexpr int64_t kSize = kRows * kCols;
  Factors factors = SomeFactors(Activation::kSilu);
  for (int64_t e = 0; e < kExperts; ++e) {
    const float alpha[kBases] = {0.1f, -1, 0.5f, 0.01f};
    std::copy_n(alpha, kBases, factors.alpha.data() + e * kBases);
  }
  // 0.01 of this one is more than 0.5 of another.
  for (int64_t j = 0; j < kSize; ++j) factors.bases[3 * kSize + j] *= 100;
  const FitTarget target = TargetOf(factors);
  Buffer<float> before;
  before.CopyFrom(factors.alpha);
  ApplyVariants(target, Options(0, kKept), &factors);
  for (int64_t e = 0; e < kExperts; ++e) {
    const float* alpha = factors.alpha.data() + e * kBases;
    EXPECT_EQ(alpha[0], 0);
    EXPECT_NE(alpha[1], 0);
    EXPECT_EQ(alpha[2], 0);
    EXPECT_NE(alpha[3], 0);
    for (const int64_t kept : {1, 3}) {
      double product = 0;
      double norm = 0;
      for (int64_t j = 0; j < kSize; ++j) {
        double rest = 0;
        for (int64_t i = 0; i < kBases; ++i) {
          rest += (before[e * kBases + i] - alpha[i]) *
                  factors.bases[i * kSize + j];
        }
        product += rest * factors.bases[kept * kSize + j];
        norm += std::pow(factors.bases[kept * kSize + j], 2);
      }
      EXPECT_LT(std::abs(product) / norm, 1e-4);
    }
  }
}

// Factors are as they will be stored but for A, which is solved for those.
TEST_F(FitVariantsTest, RoundsBeforeTheLastSolve) {
  FitOptions options = Options(3, 2);
  options.stored = DType::kBF16;
  const FitTarget target = TargetOf(SomeFactors(Activation::kSilu));
  const Factors factors = Fit(target, options, [](int64_t, int64_t, double) {});
  EXPECT_EQ(factors.bases_left.size(), kBases * kRows * 3);
  EXPECT_EQ(factors.bases_right.size(), kBases * 3 * kCols);
  for (const Buffer<float>* values :
       {&factors.bases_left, &factors.bases_right, &factors.alpha}) {
    Buffer<float> rounded;
    rounded.CopyFrom(*values);
    RoundTo(DType::kBF16, &rounded);
    EXPECT_TRUE(Same(*values, rounded));
  }
  Factors solved = Fit(target, options, [](int64_t, int64_t, double) {});
  SolveA(target, &solved);
  EXPECT_TRUE(Same(solved.a, factors.a));
  RoundFactors(DType::kBF16, kCols, &solved);
  EXPECT_TRUE(Same(solved.bases, factors.bases));
  EXPECT_FALSE(Same(solved.a, factors.a));
}

TEST_F(FitVariantsTest, BothSolversAndTwoThreads) {
  const FitTarget target = TargetOf(SomeFactors(Activation::kSilu));
  for (const Method* solver : Solvers()) {
    FitOptions options = Options(3, 2);
    options.solver = solver;
    const auto run = [&] {
      return Fit(target, options, [](int64_t, int64_t, double) {});
    };
    const Factors one = run();
    EXPECT_LT(MeasureFit(target, one).relative, 1);
    for (int64_t e = 0; e < kExperts; ++e) {
      const float* alpha = one.alpha.data() + e * kBases;
      EXPECT_EQ(std::count(alpha, alpha + kBases, 0.0f), kBases - 2);
    }
    SetThreads(2);
    const Factors two = run();
    SetThreads(1);
    EXPECT_TRUE(Same(one.a, two.a));
    EXPECT_TRUE(Same(one.alpha, two.alpha));
    EXPECT_TRUE(Same(one.bases, two.bases));
  }
}

TEST_F(FitVariantsTest, ExpertsOfZeros) {
  FitTarget target = TargetOf(SomeFactors(Activation::kSilu));
  std::fill(target.weights.begin(), target.weights.end(), 0.0f);
  target.scale = 1;
  const Factors factors =
      Fit(target, Options(2, 1), [](int64_t, int64_t, double) {});
  EXPECT_LT(MeasureFit(target, factors).scaled_mse, 1e-6);
}

TEST_F(FitVariantsTest, OptionsThatCannotBe) {
  const FitTarget target = TargetOf(SomeFactors(Activation::kSilu));
  const auto expect = [&](const FitOptions& options, const char* message) {
    ExpectError(ErrorKind::kUserInput, message,
                [&] { Fit(target, options, [](int64_t, int64_t, double) {}); });
  };
  expect(Options(7, 0),
         "the rank of the bases is 7, expected 1 to the rank (6)");
  expect(Options(-1, 0), "the rank of the bases is -1");
  expect(Options(0, 5),
         "the number of bases for one expert is 5, expected 1 to the number of "
         "bases (4)");
}

}  // namespace
}  // namespace mobe::variants_test
