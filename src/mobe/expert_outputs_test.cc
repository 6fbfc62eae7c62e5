#include "mobe/expert_outputs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "fit/testing.h"
#include "kernels/kernels.h"

namespace mobe {
namespace {

constexpr int64_t kRows = 4;
constexpr int64_t kCols = 6;
constexpr int64_t kTokens = 7;

// Of a matrix's row and a token, in double.
double RowTimes(const Buffer<float>& matrix, int64_t row, const float* x) {
  double sum = 0;
  for (int64_t k = 0; k < kCols; ++k) {
    sum += static_cast<double>(matrix[row * kCols + k]) * x[k];
  }
  return sum;
}

// What the expert puts out on a token, in double, without the routing weight.
std::vector<double> OutputOf(const Buffer<float>& gate, const Buffer<float>& up,
                             const Buffer<float>& down, const float* x) {
  std::vector<double> output(kCols, 0.0);
  for (int64_t j = 0; j < kRows; ++j) {
    const double g = RowTimes(gate, j, x);
    const double u = RowTimes(up, j, x);
    const double h = g / (1 + std::exp(-g)) * u;
    for (int64_t k = 0; k < kCols; ++k) {
      output[static_cast<size_t>(k)] += down[k * kRows + j] * h;
    }
  }
  return output;
}

TEST(ExpertOutputsTest, SlopesAreThoseOfWhatTheExpertPutsOut) {
  std::mt19937_64 random(1);
  Buffer<float> gate(kRows * kCols);
  Buffer<float> up(kRows * kCols);
  Buffer<float> down(kCols * kRows);
  for (Buffer<float>* matrix : {&gate, &up, &down}) Fill(&random, 1, matrix);
  Buffer<float> x(kTokens * kCols);
  Fill(&random, 1, &x);
  RoutedInputs inputs;
  inputs.x.Resize(x.size());
  Kernels().to_bfloat16(x.data(), x.size(), inputs.x.data());
  Kernels().from_bfloat16(inputs.x.data(), x.size(), x.data());
  inputs.starts = {0, 2, 5};
  inputs.tokens = {0, 3, 1, 4, 6};
  inputs.weights = {1, 1, 0.5f, 2, 0.25f};

  for (const MatrixKind* kind : {&kGateKind, &kUpKind}) {
    ExpertOutputs outputs;
    LinearizeExpert({gate.data(), up.data(), down.data()}, *kind, inputs, 1,
                    kRows, kCols, &outputs);
    ASSERT_EQ(outputs.tokens, (std::vector<int32_t>{1, 4, 6}));
    Buffer<float>& matrix = kind == &kGateKind ? gate : up;
    Buffer<float> before;
    before.CopyFrom(matrix);
    Buffer<float> change(matrix.size());
    Fill(&random, 1e-4f, &change);
    for (int64_t i = 0; i < change.size(); ++i) {
      matrix[i] += change[i];
      change[i] = matrix[i] - before[i];
    }
    for (int64_t t = 0; t < 3; ++t) {
      const float* token = x.data() + outputs.tokens[t] * kCols;
      const double weight = inputs.weights[static_cast<size_t>(2 + t)];
      const std::vector<double> now = OutputOf(gate, up, down, token);
      std::swap(matrix, before);
      const std::vector<double> was = OutputOf(gate, up, down, token);
      std::swap(matrix, before);
      double moved = 0;
      for (size_t k = 0; k < now.size(); ++k) {
        moved += std::pow(weight * (now[k] - was[k]), 2);
      }
      double expected = 0;
      double ce[kRows] = {};
      for (int64_t j = 0; j < kRows; ++j) {
        EXPECT_NEAR(outputs.wanted[j * 3 + t], RowTimes(before, j, token),
                    1e-5);
        ce[j] = RowTimes(change, j, token) * outputs.slopes[j * 3 + t];
      }
      for (int64_t i = 0; i < kRows; ++i) {
        for (int64_t j = 0; j < kRows; ++j) {
          expected += ce[i] * outputs.gram[i * kRows + j] * ce[j];
        }
      }
      EXPECT_NEAR(moved, expected, 0.01 * expected) << kind->name << " " << t;
    }
    matrix.CopyFrom(before);
  }
}

TEST(ExpertOutputsTest, AnExpertThatNoTokenChose) {
  RoutedInputs inputs;
  inputs.x.Resize(kCols);
  inputs.starts = {0, 0};
  Buffer<float> matrix(kRows * kCols);
  std::fill(matrix.begin(), matrix.end(), 1.0f);
  ExpertOutputs outputs;
  LinearizeExpert({matrix.data(), matrix.data(), matrix.data()}, kGateKind,
                  inputs, 0, kRows, kCols, &outputs);
  EXPECT_TRUE(outputs.tokens.empty());
}

}  // namespace
}  // namespace mobe
