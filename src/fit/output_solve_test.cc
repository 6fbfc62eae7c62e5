#include "fit/output_solve.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "fit/testing.h"
#include "kernels/gemm.h"

namespace mobe::output_solve_test {
namespace {

constexpr int64_t kRows = 5;
constexpr int64_t kRank = 3;
constexpr int64_t kCols = 12;
constexpr int64_t kTokens = 60;

// An expert with all that its solution depends on, of normal numbers.
struct Problem {
  Buffer<float> mix{kRank * kCols};
  Buffer<float> gram{kRank * kRank};  // N N^T
  RoutedInputs inputs;
  ExpertOutputs outputs;

  Problem() {
    std::mt19937_64 random(1);
    Fill(&random, 1, &mix);
    Gemm(Trans::kNo, Trans::kYes, kRank, kRank, kCols, mix.data(), kCols,
         mix.data(), kCols, 0.0f, gram.data(), kRank);
    Buffer<float> x(kTokens * kCols);
    Fill(&random, 1, &x);
    inputs.x.Resize(x.size());
    Kernels().to_bfloat16(x.data(), x.size(), inputs.x.data());
    for (int32_t t = 0; t < kTokens; t += 2) outputs.tokens.push_back(t);
    outputs.wanted.Resize(kRows * tokens());
    outputs.slopes.Resize(kRows * tokens());
    Fill(&random, 1, &outputs.wanted);
    Fill(&random, 1, &outputs.slopes);
    Buffer<float> down(kCols * kRows);
    Fill(&random, 1, &down);
    outputs.gram.Resize(kRows * kRows);
    Gemm(Trans::kYes, Trans::kNo, kRows, kRows, kCols, down.data(), kRows,
         down.data(), kRows, 0.0f, outputs.gram.data(), kRows);
  }

  int64_t tokens() const { return std::ssize(outputs.tokens); }

  // sum_t (c * e)^T K (c * e) and its slope in A [kRows, kRank], in double.
  double Loss(const Buffer<float>& a, std::vector<double>* slope) const {
    double loss = 0;
    slope->assign(kRows * kRank, 0.0);
    for (int64_t t = 0; t < tokens(); ++t) {
      double z[kRank] = {};
      const int64_t token = outputs.tokens[static_cast<size_t>(t)];
      for (int64_t k = 0; k < kRank; ++k) {
        for (int64_t j = 0; j < kCols; ++j) {
          z[k] += mix[k * kCols + j] * ToFloat(inputs.x[token * kCols + j]);
        }
      }
      double e[kRows] = {};
      for (int64_t i = 0; i < kRows; ++i) {
        e[i] = -outputs.wanted[i * tokens() + t];
        for (int64_t k = 0; k < kRank; ++k) e[i] += a[i * kRank + k] * z[k];
        e[i] *= outputs.slopes[i * tokens() + t];
      }
      for (int64_t i = 0; i < kRows; ++i) {
        double pull = 0;
        for (int64_t j = 0; j < kRows; ++j) {
          pull += outputs.gram[i * kRows + j] * e[j];
        }
        loss += pull * e[i];
        for (int64_t k = 0; k < kRank; ++k) {
          (*slope)[static_cast<size_t>(i * kRank + k)] +=
              2 * pull * outputs.slopes[i * tokens() + t] * z[k];
        }
      }
    }
    return loss;
  }
  double LossOf(const Buffer<float>& a) const {
    std::vector<double> slope;
    return Loss(a, &slope);
  }
};

TEST(OutputSolveTest, IsTheLeastWithItsRidge) {
  const Problem problem;
  Buffer<float> start(kRows * kRank);
  std::mt19937_64 random(2);
  Fill(&random, 1, &start);
  Buffer<float> a;
  a.CopyFrom(start);
  SolveForOutputs(problem.outputs, problem.inputs, problem.mix, problem.gram,
                  kRows, kRank, kCols, a.data());
  EXPECT_LT(problem.LossOf(a), 0.8 * problem.LossOf(start));

  // The slope of the loss there is the ridge's, (A_0 - A) G times one number.
  std::vector<double> slope;
  problem.Loss(a, &slope);
  std::vector<double> back(kRows * kRank, 0.0);
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t k = 0; k < kRank; ++k) {
      for (int64_t l = 0; l < kRank; ++l) {
        back[static_cast<size_t>(i * kRank + k)] +=
            (start[i * kRank + l] - a[i * kRank + l]) *
            problem.gram[l * kRank + k];
      }
    }
  }
  double along = 0;
  double square = 0;
  double all = 0;
  for (size_t i = 0; i < back.size(); ++i) {
    along += back[i] * slope[i];
    square += back[i] * back[i];
    all += slope[i] * slope[i];
  }
  const double ridge = along / square;
  EXPECT_GT(ridge, 0);
  double rest = 0;
  for (size_t i = 0; i < back.size(); ++i) {
    rest += std::pow(slope[i] - ridge * back[i], 2);
  }
  EXPECT_LT(rest, 1e-6 * all);
}

TEST(OutputSolveTest, StaysWithoutTokens) {
  Problem problem;
  problem.outputs.tokens.clear();
  Buffer<float> a(kRows * kRank);
  std::fill(a.begin(), a.end(), 1.0f);
  SolveForOutputs(problem.outputs, problem.inputs, problem.mix, problem.gram,
                  kRows, kRank, kCols, a.data());
  for (const float value : a) EXPECT_EQ(value, 1.0f);
}

// An expert that never puts anything out, and one that reads zeros.
TEST(OutputSolveTest, StaysFinite) {
  Problem silent;
  std::fill(silent.outputs.slopes.begin(), silent.outputs.slopes.end(), 0.0f);
  Problem blind;
  std::fill(blind.mix.begin(), blind.mix.end(), 0.0f);
  std::fill(blind.gram.begin(), blind.gram.end(), 0.0f);
  for (const Problem* problem : {&silent, &blind}) {
    Buffer<float> a(kRows * kRank);
    std::fill(a.begin(), a.end(), 1.0f);
    SolveForOutputs(problem->outputs, problem->inputs, problem->mix,
                    problem->gram, kRows, kRank, kCols, a.data());
    for (const float value : a) EXPECT_EQ(value, 1.0f);
  }
}

// Factors of an expert of zeros.
TEST(OutputSolveTest, LeavesAWhereBasesAreZero) {
  FitTarget target = EmptyTarget(1, kRows, kCols);
  target.outputs = [](const RoutedInputs&, int64_t, ExpertOutputs* outputs) {
    *outputs = std::move(Problem().outputs);
  };
  target.inputs = std::move(Problem().inputs);
  target.inputs.starts = {0, 0};
  Factors factors;
  factors.num_bases = 1;
  factors.rank = kRank;
  factors.a.Resize(kRows * kRank);
  std::fill(factors.a.begin(), factors.a.end(), 1.0f);
  factors.bases.Resize(kRank * kCols);
  std::fill(factors.bases.begin(), factors.bases.end(), 0.0f);
  factors.alpha.Resize(1);
  factors.alpha[0] = 1;
  int asked = 0;
  SolveForOutputs(
      &TheCpu(), target, DType::kBF16, [&] { ++asked; }, &factors);
  for (const float value : factors.a) EXPECT_EQ(value, 1.0f);
  EXPECT_EQ(asked, 1);
}

}  // namespace
}  // namespace mobe::output_solve_test
