// Fits in a form: low-rank bases, sparse alpha.
#include "fit/project.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include "fit/testing.h"
#include "fit/weighted_solve.h"
#include "kernels/gemm.h"

namespace mobe::project_test {
namespace {

using internal::Form;
using internal::FormAt;
using internal::LowRankBases;
using internal::SparseAlpha;

constexpr int64_t kExperts = 12;
constexpr int64_t kRows = 8;
constexpr int64_t kCols = 32;
constexpr int64_t kBases = 4;
constexpr int64_t kSize = kRows * kCols;

FitOptions Options(int64_t basis_rank, int64_t max_alphas,
                   int64_t passes = 200) {
  FitOptions options;
  options.num_bases = kBases;
  options.rank = kRows;
  options.basis_rank = basis_rank;
  options.max_alphas = max_alphas;
  options.passes = passes;
  options.stored = DType::kF32;
  return options;
}

Factors Solve(const FitTarget& target, const FitOptions& options) {
  return Fit(target, options, [](int64_t, int64_t, double) {});
}

// Fitted without the form, brought into it once.
Factors SolveAndCut(const FitTarget& target, const FitOptions& options) {
  FitOptions free = options;
  free.basis_rank = 0;
  free.max_alphas = 0;
  Factors factors = Solve(target, free);
  internal::ApplyVariants(target, options, &factors);
  internal::SolveA(target, &factors);
  return factors;
}

FitTarget Target(const Factors& factors) {
  return TargetOf(factors, kExperts, kRows, kCols);
}

// Factors of such bases, of which neighboring experts use the same ones, as the
// start has it, or others.
enum class Users { kNeighbors, kOthers };
Factors FormedFactors(Activation activation, int64_t num_bases,
                      int64_t basis_rank, int64_t alphas, Users users) {
  Factors factors =
      RandomFactors(activation, kExperts, kRows, kCols, num_bases, 7);
  std::mt19937_64 random(8);
  factors.basis_rank = basis_rank;
  factors.bases_left.Resize(num_bases * kRows * basis_rank);
  factors.bases_right.Resize(num_bases * basis_rank * kCols);
  Fill(&random, 1, &factors.bases_left);
  Fill(&random, 1, &factors.bases_right);
  MultiplyBases(kCols, &factors);
  for (int64_t e = 0; e < kExperts; ++e) {
    const int64_t first =
        users == Users::kNeighbors ? e * num_bases / kExperts : e;
    for (int64_t i = 0; i < num_bases; ++i) {
      const bool used =
          (i + num_bases - first % num_bases) % num_bases < alphas;
      if (!used) factors.alpha[e * num_bases + i] = 0;
    }
  }
  return factors;
}

// Some bases of full rank, and experts that use all.
Factors DenseFactors() {
  return RandomFactors(Activation::kSilu, kExperts, kRows, kCols, kBases, 1);
}

// Share of a matrix' energy that a truncated SVD of that rank leaves out.
double BeyondRank(const float* basis, int64_t k) {
  Buffer<float> left(kRows * k);
  Buffer<float> right(k * kCols);
  Buffer<float> product(kSize);
  internal::SplitBasis(basis, kRows, kCols, k, left.data(), right.data());
  Gemm(Trans::kNo, Trans::kNo, kRows, kCols, k, left.data(), k, right.data(),
       kCols, 0.0f, product.data(), kCols);
  double error = 0;
  double norm = 0;
  for (int64_t j = 0; j < kSize; ++j) {
    error += std::pow(product[j] - basis[j], 2);
    norm += std::pow(basis[j], 2);
  }
  return error / norm;
}

// What the loop of the solver does after a step.
struct Projection {
  Projection(const FitTarget& target, FitOptions for_options)
      : options(std::move(for_options)),
        form{options.num_bases, options.rank},
        bases(target, options) {}

  // Whether the form became narrower.
  bool Apply(double done, Factors* factors) {
    const Form next = FormAt(options, done);
    const bool narrower =
        next.basis_rank < form.basis_rank || next.alphas < form.alphas;
    if (next.basis_rank < form.basis_rank) {
      bases.Narrow(next.basis_rank, factors->bases);
    }
    if (next.alphas < form.alphas) {
      alpha.Narrow(internal::GramOfBases(factors->bases, kBases), kBases,
                   next.alphas, &factors->alpha);
    }
    form = next;
    bases.Retract(&factors->bases);
    alpha.Apply(&factors->alpha);
    return narrower;
  }

  const FitOptions options;
  Form form;
  LowRankBases bases;
  SparseAlpha alpha;
};

// Rank of the bases and alphas of an expert; 0: any.
constexpr std::pair<int64_t, int64_t> kForms[] = {
    {2, 0}, {4, 0}, {0, 1}, {0, 2}, {4, 2}};

class FitProjectTest : public ::testing::Test {
  const OneThread one_thread_;
};

// Noise, and a target that needs more than the form has. Measured: 0.2 to 0.63
// of the cut one's error.
TEST_F(FitProjectTest, FittedIsBetterThanCut) {
  const FitTarget targets[] = {RandomTarget(kExperts, kRows, kCols),
                               Target(DenseFactors())};
  for (const FitTarget& target : targets) {
    for (const auto& [basis_rank, alphas] : kForms) {
      const FitOptions options = Options(basis_rank, alphas);
      const double cut =
          MeasureFit(target, SolveAndCut(target, options)).scaled_mse;
      EXPECT_LT(MeasureFit(target, Solve(target, options)).scaled_mse,
                0.75 * cut)
          << basis_rank << " " << alphas;
    }
  }
}

// One low-rank basis without activation is a common row space, found exactly;
// where neighbors share one of two, it is what the start assumes, before the
// noise that it adds to alpha.
TEST_F(FitProjectTest, FindsWhatHasTheForm) {
  const auto error = [](int64_t num_bases, int64_t basis_rank) {
    const FitTarget target = Target(FormedFactors(
        Activation::kIdentity, num_bases, basis_rank, 1, Users::kNeighbors));
    FitOptions options = Options(basis_rank, 1, 400);
    options.num_bases = num_bases;
    options.activation = Activation::kIdentity;
    return MeasureFit(target, Solve(target, options)).relative;
  };
  EXPECT_LT(error(1, 3), 1e-4);
  EXPECT_LT(error(2, kRows), 0.02);
}

// Otherwise a fit may end in a local minimum; in all they are far below those
// of noise and those of ordinary fits that are cut (measured: 0.42 and 0.52 of
// these).
TEST_F(FitProjectTest, ComesNearWhatHasTheForm) {
  struct Case {
    Activation activation;
    int64_t num_bases, basis_rank, alphas;
  };
  double fitted = 0;
  double cut = 0;
  double noise = 0;
  for (const Case& c : {Case{Activation::kIdentity, 2, kRows, 1},
                        {Activation::kTanh, 2, 3, 1},
                        {Activation::kSilu, 2, 3, 1},
                        {Activation::kSilu, 4, kRows, 2}}) {
    const FitTarget target = Target(FormedFactors(
        c.activation, c.num_bases, c.basis_rank, c.alphas, Users::kOthers));
    FitOptions options = Options(c.basis_rank, c.alphas, 400);
    options.num_bases = c.num_bases;
    options.activation = c.activation;
    const FitTarget random = RandomTarget(kExperts, kRows, kCols);
    fitted += MeasureFit(target, Solve(target, options)).relative;
    cut += MeasureFit(target, SolveAndCut(target, options)).relative;
    noise += MeasureFit(random, Solve(random, options)).relative;
  }
  EXPECT_LT(fitted, 0.65 * cut);
  EXPECT_LT(fitted, 0.65 * noise);
}

// What is stored has the form after any number of passes, rounded or not.
TEST_F(FitProjectTest, StoredInItsForm) {
  const FitTarget target = Target(DenseFactors());
  for (const auto& [basis_rank, alphas] : kForms) {
    for (const int64_t passes : {1, 2, 9, 50}) {
      FitOptions options = Options(basis_rank, alphas, passes);
      options.stored = DType::kBF16;
      Factors factors = Solve(target, options);
      RoundFactors(options.stored, kCols, &factors);
      EXPECT_EQ(factors.basis_rank, basis_rank);
      EXPECT_EQ(factors.bases_left.size(), kBases * kRows * basis_rank);
      EXPECT_EQ(factors.bases_right.size(), kBases * basis_rank * kCols);
      for (int64_t e = 0; e < kExperts && alphas > 0; ++e) {
        const float* alpha = factors.alpha.data() + e * kBases;
        EXPECT_EQ(std::count(alpha, alpha + kBases, 0.0f), kBases - alphas);
      }
    }
  }
}

// The form narrows early and in steps, and bases and alpha are in it after each
// pass whatever the step did to them.
TEST_F(FitProjectTest, KeepsTheForm) {
  Factors factors = DenseFactors();
  const FitTarget target = Target(factors);
  Projection projection(target, Options(3, 1));
  std::mt19937_64 random(3);
  Buffer<float> noise(factors.bases.size());
  int narrowed = 0;
  for (const double done : {0.0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.5, 0.99}) {
    Fill(&random, 0.1f, &noise);
    for (int64_t j = 0; j < noise.size(); ++j) factors.bases[j] += noise[j];
    for (float& alpha : factors.alpha) alpha += 0.1f;
    narrowed += projection.Apply(done, &factors) ? 1 : 0;
    if (done < 0.2) continue;
    for (int64_t i = 0; i < kBases; ++i) {
      EXPECT_LT(BeyondRank(factors.bases.data() + i * kSize, 3), 1e-10);
    }
    for (int64_t e = 0; e < kExperts; ++e) {
      const float* alpha = factors.alpha.data() + e * kBases;
      EXPECT_EQ(std::count(alpha, alpha + kBases, 0.0f), kBases - 1);
    }
  }
  EXPECT_GE(narrowed, 3);
  EXPECT_LE(narrowed, 4);
}

// The tangents at U V are all X V + U Y: those stay, the rest goes, and what is
// left is a tangent.
TEST_F(FitProjectTest, GradientsBecomeTangents) {
  constexpr int64_t kRank = 3;
  Factors factors = DenseFactors();
  const FitTarget target = Target(factors);
  Projection projection(target, Options(kRank, 0));
  projection.Apply(0.5, &factors);
  Buffer<float> gradient(factors.bases.size());
  std::mt19937_64 random(5);
  Fill(&random, 1, &gradient);
  Buffer<float> tangent;
  tangent.CopyFrom(gradient);
  projection.bases.Tangent(&tangent);
  Buffer<float> again;
  again.CopyFrom(tangent);
  projection.bases.Tangent(&again);
  double kept = 0;     // |tangent|^2
  double product = 0;  // tangent . gradient: the same for a projection
  for (int64_t j = 0; j < gradient.size(); ++j) {
    EXPECT_NEAR(again[j], tangent[j], 1e-5);
    kept += tangent[j] * tangent[j];
    product += tangent[j] * gradient[j];
  }
  EXPECT_NEAR(product / kept, 1, 1e-5);
  // Dimensions of such bases, of all that there are.
  const double share = static_cast<double>(kRank * (kRows + kCols - kRank)) /
                       static_cast<double>(kSize);
  EXPECT_NEAR(kept / static_cast<double>(kBases * kSize), share, 0.1);
  // A small step along it leaves the surface by the square of its length only.
  for (int64_t j = 0; j < gradient.size(); ++j) {
    factors.bases[j] += 1e-3f * tangent[j];
  }
  for (int64_t i = 0; i < kBases; ++i) {
    EXPECT_LT(BeyondRank(factors.bases.data() + i * kSize, kRank), 1e-10);
  }
}

// Without a form nothing is touched.
TEST_F(FitProjectTest, NoForm) {
  Factors factors = DenseFactors();
  const Factors before = DenseFactors();
  const FitTarget target = Target(factors);
  for (const FitOptions& options :
       {Options(0, 0), Options(kRows, 0), Options(0, kBases)}) {
    Projection projection(target, options);
    EXPECT_FALSE(projection.Apply(0.9, &factors));
    projection.bases.Tangent(&factors.bases);
    EXPECT_TRUE(Same(factors.bases, before.bases));
    EXPECT_TRUE(Same(factors.alpha, before.alpha));
  }
}

TEST_F(FitProjectTest, ThreadsDoNotMatter) {
  const FitTarget target = RandomTarget(6, 40, 96);
  FitOptions options = Options(7, 2, 12);
  options.rank = target.rows;
  const Factors one = Solve(target, options);
  SetThreads(2);
  const Factors two = Solve(target, options);
  EXPECT_TRUE(Same(one.a, two.a));
  EXPECT_TRUE(Same(one.bases, two.bases));
  EXPECT_TRUE(Same(one.alpha, two.alpha));
}

// Moments and forms together: in the norm of the moment the fitted one is
// better, too.
TEST_F(FitProjectTest, WithAMoment) {
  FitTarget target = Target(DenseFactors());
  target.moment.Resize(kCols * kCols);
  for (int64_t i = 0; i < kCols; ++i) {
    for (int64_t j = 0; j < kCols; ++j) {
      target.moment[i * kCols + j] =
          static_cast<float>(std::pow(0.9, std::abs(i - j)));
    }
  }
  for (const auto& [basis_rank, alphas] : kForms) {
    const FitOptions options = Options(basis_rank, alphas);
    Factors cut = SolveAndCut(target, options);
    SolveWeightedA(target, &cut);
    EXPECT_LT(MeasureWeighted(target, Solve(target, options)),
              0.85 * MeasureWeighted(target, cut))
        << basis_rank << " " << alphas;
  }
}

}  // namespace
}  // namespace mobe::project_test
