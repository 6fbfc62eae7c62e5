#include "fit/whiten.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fit/testing.h"
#include "fit/weighted_solve.h"
#include "kernels/gemm.h"

namespace mobe::whiten_test {
namespace {

constexpr int64_t kExperts = 8;
constexpr int64_t kRows = 6;
constexpr int64_t kCols = 24;
constexpr int64_t kBases = 4;

// Columns of A that are alike, of which one is large.
Factors Uneven(Activation activation) {
  Factors factors =
      RandomFactors(activation, kExperts, kRows, kCols, kBases, 1);
  for (int64_t i = 0; i < factors.a.size(); i += kRows) {
    factors.a[i] *= 10;
    factors.a[i + 1] += factors.a[i];
  }
  return factors;
}

void ExpectWhite(const Factors& factors) {
  Buffer<float> sum(kRows * kRows);
  Gemm(Trans::kYes, Trans::kNo, kRows, kRows, kExperts * kRows,
       factors.a.data(), kRows, factors.a.data(), kRows, 0.0f, sum.data(),
       kRows);
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t j = 0; j < kRows; ++j) {
      EXPECT_NEAR(sum[i * kRows + j] / sum[0], i == j ? 1 : 0, 1e-3);
    }
  }
}

double Square(const Buffer<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return sum;
}

TEST(WhitenTest, ColumnsOfABecomeWhiteAndProductsStay) {
  Factors factors = Uneven(Activation::kIdentity);
  const FitTarget target = TargetOf(factors, kExperts, kRows, kCols);
  const double before = Square(factors.bases);
  WhitenA(target, &factors);
  ExpectWhite(factors);
  EXPECT_LT(MeasureFit(target, factors).relative, 1e-5);
  EXPECT_NEAR(Square(factors.bases) / before, 1, 1e-5);
}

TEST(WhitenTest, LowRankBasesAreTurnedOnTheirLeft) {
  constexpr int64_t kRank = 2;
  Factors factors = Uneven(Activation::kIdentity);
  factors.basis_rank = kRank;
  factors.bases_left.Resize(kBases * kRows * kRank);
  factors.bases_right.Resize(kBases * kRank * kCols);
  std::mt19937_64 random(4);
  Fill(&random, 1, &factors.bases_left);
  Fill(&random, 1, &factors.bases_right);
  MultiplyBases(kCols, &factors);
  const FitTarget target = TargetOf(factors, kExperts, kRows, kCols);
  WhitenA(target, &factors);
  ExpectWhite(factors);
  EXPECT_LT(MeasureFit(target, factors).relative, 1e-5);
}

TEST(WhitenTest, OtherActivationsAndZerosStay) {
  Factors factors = Uneven(Activation::kSilu);
  const FitTarget target = TargetOf(factors, kExperts, kRows, kCols);
  const Factors before = Uneven(Activation::kSilu);
  WhitenA(target, &factors);
  EXPECT_TRUE(Same(factors.a, before.a));
  EXPECT_TRUE(Same(factors.bases, before.bases));
  factors.activation = Activation::kIdentity;
  std::fill(factors.a.begin(), factors.a.end(), 0.0f);
  WhitenA(target, &factors);
  EXPECT_TRUE(Same(factors.bases, before.bases));
}

// sum_e c_e N_e S_e N_e^T.
Buffer<float> GramOfMixes(const FitTarget& target, const Factors& factors) {
  Buffer<float> gram(kRows * kRows), moment, mix, read(kRows * kCols);
  for (int64_t e = 0; e < kExperts; ++e) {
    ExpertMoment(target, e, &moment);
    internal::MixExpert(factors, e, kCols, &mix);
    for (float& value : mix) value *= std::sqrt(target.importance[e]);
    Gemm(Trans::kNo, Trans::kNo, kRows, kCols, kCols, mix.data(), kCols,
         moment.data(), kCols, 0.0f, read.data(), kCols);
    Gemm(Trans::kNo, Trans::kYes, kRows, kRows, kCols, read.data(), kCols,
         mix.data(), kCols, e == 0 ? 0.0f : 1.0f, gram.data(), kRows);
  }
  return gram;
}

TEST(WhitenTest, WhatAReadsIsDiagonalAndFalls) {
  Factors factors = Uneven(Activation::kIdentity);
  FitTarget target = TargetOf(factors, kExperts, kRows, kCols);
  std::mt19937_64 random(7);
  Buffer<float> root(kCols * kCols);
  Fill(&random, 1, &root);
  target.moment.Resize(kCols * kCols);
  Gemm(Trans::kNo, Trans::kYes, kCols, kCols, kCols, root.data(), kCols,
       root.data(), kCols, 0.0f, target.moment.data(), kCols);
  target.importance.Resize(kExperts);
  for (int64_t e = 0; e < kExperts; ++e) {
    target.importance[e] = static_cast<float>(e + 1);
  }
  WhitenA(target, &factors);
  ExpectWhite(factors);
  EXPECT_LT(MeasureFit(target, factors).relative, 1e-5);
  const Buffer<float> gram = GramOfMixes(target, factors);
  for (int64_t i = 0; i < kRows; ++i) {
    if (i > 0) {
      EXPECT_LE(gram[i * (kRows + 1)], gram[(i - 1) * (kRows + 1)]);
    }
    for (int64_t j = 0; j < i; ++j) {
      EXPECT_NEAR(gram[i * kRows + j] / gram[0], 0, 1e-4);
    }
  }
}

// Of columns that A does not use at all nothing becomes infinite.
TEST(WhitenTest, UnusedColumns) {
  Factors factors = Uneven(Activation::kIdentity);
  for (int64_t i = 0; i < factors.a.size(); i += kRows) factors.a[i + 3] = 0;
  const FitTarget target = TargetOf(factors, kExperts, kRows, kCols);
  WhitenA(target, &factors);
  EXPECT_LT(MeasureFit(target, factors).relative, 1e-4);
}

}  // namespace
}  // namespace mobe::whiten_test
