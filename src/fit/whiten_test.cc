#include "fit/whiten.h"

#include <gtest/gtest.h>

#include "fit/testing.h"
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
  WhitenA(kExperts, kRows, kCols, &factors);
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
  WhitenA(kExperts, kRows, kCols, &factors);
  ExpectWhite(factors);
  EXPECT_LT(MeasureFit(target, factors).relative, 1e-5);
}

TEST(WhitenTest, OtherActivationsAndZerosStay) {
  Factors factors = Uneven(Activation::kSilu);
  const Factors before = Uneven(Activation::kSilu);
  WhitenA(kExperts, kRows, kCols, &factors);
  EXPECT_TRUE(Same(factors.a, before.a));
  EXPECT_TRUE(Same(factors.bases, before.bases));
  factors.activation = Activation::kIdentity;
  std::fill(factors.a.begin(), factors.a.end(), 0.0f);
  WhitenA(kExperts, kRows, kCols, &factors);
  EXPECT_TRUE(Same(factors.bases, before.bases));
}

// Of columns that A does not use at all nothing becomes infinite.
TEST(WhitenTest, UnusedColumns) {
  Factors factors = Uneven(Activation::kIdentity);
  for (int64_t i = 0; i < factors.a.size(); i += kRows) factors.a[i + 3] = 0;
  const FitTarget target = TargetOf(factors, kExperts, kRows, kCols);
  WhitenA(kExperts, kRows, kCols, &factors);
  EXPECT_LT(MeasureFit(target, factors).relative, 1e-4);
}

}  // namespace
}  // namespace mobe::whiten_test
