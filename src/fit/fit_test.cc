#include "fit/fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "base/parallel.h"
#include "fit/method.h"
#include "fit/testing.h"

namespace mobe::fit_test {
namespace {

constexpr int64_t kExperts = 8;
constexpr int64_t kRows = 6;
constexpr int64_t kCols = 24;

FitTarget NoiseTarget() { return RandomTarget(kExperts, kRows, kCols); }

// A target that is exactly A f(alpha B) with `num_bases` bases.
FitTarget ExactTarget(Activation activation, int64_t num_bases) {
  return TargetOf(
      RandomFactors(activation, kExperts, kRows, kCols, num_bases, 2), kExperts,
      kRows, kCols);
}

FitOptions Options(const Method* solver, int64_t num_bases, int64_t passes) {
  FitOptions options;
  options.num_bases = num_bases;
  options.rank = kRows;
  options.solver = solver;
  options.passes = passes;
  options.stored = DType::kF32;
  return options;
}

Factors Solve(const FitTarget& target, const FitOptions& options,
              std::vector<double>* losses = nullptr) {
  return Fit(target, options, [&](int64_t pass, int64_t, double loss) {
    EXPECT_TRUE(std::isfinite(loss)) << pass;
    if (losses == nullptr) return;
    losses->push_back(loss);
    EXPECT_EQ(losses->size(), static_cast<size_t>(pass));
  });
}

class FitTest : public ::testing::Test {
  const OneThread one_thread_;
};

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kTanh,
                                       Activation::kIdentity};

TEST_F(FitTest, Names) {
  EXPECT_EQ(FindMethod("fast"), &kFastSolver);
  EXPECT_EQ(FindMethod("reference"), &kReferenceSolver);
  EXPECT_EQ(FindMethod("Fast"), nullptr);
}

TEST_F(FitTest, OptionsThatCannotBe) {
  struct Case {
    int64_t num_bases;
    int64_t rank;
    int64_t passes;
    ErrorKind kind;
    const char* message;
  };
  const Case cases[] = {
      {0, kRows, 1, ErrorKind::kUserInput, "the number of bases is 0"},
      {kExperts + 1, kRows, 1, ErrorKind::kUserInput,
       "the number of bases is 9, expected 1 to the number of experts (8)"},
      {2, 0, 1, ErrorKind::kUnsupported, "rank 0 does not fit"},
      {2, kCols + 1, 1, ErrorKind::kUnsupported,
       "rank 25 does not fit expert matrices of 6 x 24"},
      {2, kRows, 0, ErrorKind::kUserInput, "the number of passes is 0"},
  };
  const FitTarget target = NoiseTarget();
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    FitOptions options = Options(&kFastSolver, c.num_bases, c.passes);
    options.rank = c.rank;
    ExpectError(c.kind, c.message, [&] { Solve(target, options); });
  }
}

// One basis without activation is a common row space, which is found exactly.
// Everything else may end in a local minimum; far below what there is for a
// target of noise.
TEST_F(FitTest, RecoversWhatHasFewBases) {
  for (const Activation activation : kActivations) {
    for (const int64_t num_bases : {1, 2, 3}) {
      SCOPED_TRACE(fmt::format("{} {}", ActivationName(activation), num_bases));
      FitOptions options = Options(&kFastSolver, num_bases, 200);
      options.activation = activation;
      const auto error = [&](const FitTarget& target) {
        return MeasureFit(target, Solve(target, options)).relative;
      };
      const double exact = error(ExactTarget(activation, num_bases));
      EXPECT_LT(exact, 0.55 * error(NoiseTarget()));
      if (num_bases > 1) continue;
      EXPECT_LT(exact, activation == Activation::kIdentity ? 1e-4 : 0.15);
    }
  }
}

TEST_F(FitTest, ABasisForEachExpertIsEnough) {
  const FitTarget target = NoiseTarget();
  for (const Method* solver : Solvers()) {
    for (const Activation activation : kActivations) {
      FitOptions options = Options(solver, kExperts, 400);
      options.activation = activation;
      const double error = MeasureFit(target, Solve(target, options)).relative;
      EXPECT_LT(error, 0.1)
          << solver->name << " " << ActivationName(activation);
    }
  }
}

TEST_F(FitTest, TargetOfZeros) {
  FitTarget target = EmptyTarget(kExperts, kRows, kCols);
  std::fill(target.weights.begin(), target.weights.end(), 0.0f);
  for (const Method* solver : Solvers()) {
    for (const Activation activation : kActivations) {
      FitOptions options = Options(solver, 2, 20);
      options.activation = activation;
      const Factors factors = Solve(target, options);
      for (const auto* part : {&factors.a, &factors.bases, &factors.alpha}) {
        for (const float value : *part) ASSERT_TRUE(std::isfinite(value));
      }
      EXPECT_LT(MeasureFit(target, factors).relative, 1e-3);
    }
  }
}

// Near the end of float32 sums overflow: an error, or factors of their shapes.
TEST_F(FitTest, HugeWeights) {
  FitTarget target = NoiseTarget();
  for (float& w : target.weights) w = std::copysign(3e38f, w);
  target.scale = 3e38;
  for (const Method* solver : Solvers()) {
    Factors factors;
    const auto error = ErrorOf([&] {
      factors =
          Fit(target, Options(solver, 2, 3), [](int64_t, int64_t, double) {});
    });
    if (error) continue;
    EXPECT_EQ(factors.bases.size(), 2 * kRows * kCols) << solver->name;
    EXPECT_EQ(factors.alpha.size(), kExperts * 2) << solver->name;
  }
}

// Large enough that every loop has several pieces.
TEST_F(FitTest, ThreadsDoNotMatter) {
  const FitTarget target = RandomTarget(4, 64, 160);
  for (const Method* solver : Solvers()) {
    FitOptions options = Options(solver, 2, 5);
    options.rank = target.rows;
    SetThreads(1);
    const Factors one = Solve(target, options);
    SetThreads(2);
    const Factors two = Solve(target, options);
    EXPECT_TRUE(Same(one.a, two.a)) << solver->name;
    EXPECT_TRUE(Same(one.bases, two.bases)) << solver->name;
    EXPECT_TRUE(Same(one.alpha, two.alpha)) << solver->name;
  }
}

TEST_F(FitTest, SeedMatters) {
  const FitTarget target = NoiseTarget();
  FitOptions options = Options(&kFastSolver, 3, 5);
  const Factors first = Solve(target, options);
  const Factors again = Solve(target, options);
  options.seed = 1;
  const Factors other = Solve(target, options);
  EXPECT_TRUE(Same(first.alpha, again.alpha));
  EXPECT_TRUE(Same(first.a, again.a));
  EXPECT_FALSE(Same(first.alpha, other.alpha));
}

TEST_F(FitTest, ReportsEachPassAndGetsBetter) {
  const FitTarget target = NoiseTarget();
  for (const Method* solver : Solvers()) {
    std::vector<double> losses;
    const Factors factors = Solve(target, Options(solver, 3, 200), &losses);
    ASSERT_EQ(losses.size(), 200u);
    EXPECT_LT(losses.back(), losses.front());
    // The last loss is that before the last step, so nearly the result's.
    const double error = MeasureFit(target, factors).scaled_mse;
    EXPECT_NEAR(error / losses.back(), 1, 0.05) << solver->name;
  }
}

// W / scale differs, so nothing else may.
TEST_F(FitTest, ScaleOfTheWeightsIsFoldedIntoA) {
  FitTarget target = NoiseTarget();
  const Factors before = Solve(target, Options(&kFastSolver, 3, 10));
  for (float& w : target.weights) w *= 1024;
  target.scale *= 1024;
  const Factors after = Solve(target, Options(&kFastSolver, 3, 10));
  for (int64_t i = 0; i < before.a.size(); ++i) {
    ASSERT_NEAR(after.a[i], 1024 * before.a[i],
                1e-2 * std::abs(after.a[i]) + 1e-2);
  }
}

// Left to themselves bases grow without end, past what float16 holds.
TEST_F(FitTest, BasesKeepTheirSize) {
  const FitTarget target = NoiseTarget();
  for (const Activation activation : kActivations) {
    for (const int64_t basis_rank : {0, 4}) {
      FitOptions options = Options(&kFastSolver, 3, 200);
      options.activation = activation;
      options.basis_rank = basis_rank;
      const Factors factors = Solve(target, options);
      double square = 0;
      for (const float b : factors.bases) square += static_cast<double>(b) * b;
      const double root =
          std::sqrt(square / static_cast<double>(factors.bases.size()));
      EXPECT_NEAR(root, 0.2, 0.01)
          << ActivationName(activation) << " " << basis_rank;
    }
  }
}

// Where mixes have fewer independent rows than A has columns, A stays small
// enough that to round it costs little (measured: at most 1.6%).
TEST_F(FitTest, AStaysSmallWhereMixesAreNearlySingular) {
  const FitTarget target = NoiseTarget();
  for (const Activation activation : kActivations) {
    for (const int64_t passes : {1, 3, 30}) {
      FitOptions options = Options(&kFastSolver, 2, passes);
      options.activation = activation;
      options.basis_rank = 1;
      options.stored = DType::kBF16;
      Factors factors = Solve(target, options);
      const double exact = MeasureFit(target, factors).scaled_mse;
      RoundTo(DType::kBF16, &factors.a);
      EXPECT_LT(MeasureFit(target, factors).scaled_mse, 1.05 * exact)
          << ActivationName(activation) << " " << passes;
    }
  }
}

// A is the best there is for the stored bases and alpha, in every dtype: the
// residual is orthogonal to N, and with it to any change of A.
TEST_F(FitTest, AIsOptimalForTheStoredBases) {
  const FitTarget target = NoiseTarget();
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    FitOptions options = Options(&kFastSolver, 3, 20);
    options.stored = dtype;
    Factors factors = Solve(target, options);
    const double error = MeasureFit(target, factors).scaled_mse;
    for (const Buffer<float>* part : {&factors.bases, &factors.alpha}) {
      Buffer<float> rounded(part->size());
      std::copy(part->begin(), part->end(), rounded.begin());
      RoundTo(dtype, &rounded);
      EXPECT_TRUE(Same(*part, rounded)) << DTypeName(dtype);
    }
    std::mt19937_64 random(3);
    for (int64_t i = 0; i < factors.a.size(); i += 7) {
      const float a = factors.a[i];
      for (const float step : {-0.02f, 0.02f}) {
        factors.a[i] = a * (1 + step);
        EXPECT_GT(MeasureFit(target, factors).scaled_mse, error * (1 - 1e-6))
            << DTypeName(dtype) << " " << i;
      }
      factors.a[i] = a;
    }
  }
}

}  // namespace
}  // namespace mobe::fit_test
