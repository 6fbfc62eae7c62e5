// One panel and several, even and odd, against the definitions in double; the
// bounds are those of kernels_test.cc.
#include "fit/cholesky.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <random>

#include "base/matrix.h"

namespace mobe::internal::cholesky_test {
namespace {

constexpr double kEps = FLT_EPSILON;
constexpr int64_t kSizes[] = {1, 17, 128, 129, 300, 512};
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

Buffer<float> Random(int64_t size, uint64_t seed) {
  Buffer<float> values(size);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  for (float& value : values) value = normal(random);
  return values;
}

struct Sum {
  double value = 0;
  double magnitude = 0;

  void Add(float a, float b) {
    const double term = double{a} * b;
    value += term;
    magnitude += std::abs(term);
  }
};

// A positive definite matrix, rows `stride` apart: size I plus a few squares.
// NaN below the diagonal, which nobody may use.
Buffer<float> Definite(int64_t size, int64_t stride) {
  constexpr int64_t kSquares = 7;
  const Buffer<float> factor = Random(size * kSquares, 1);
  Buffer<float> g(size * stride);
  std::fill(g.begin(), g.end(), kNaN);
  for (int64_t k = 0; k < size; ++k) {
    for (int64_t i = k; i < size; ++i) {
      Sum sum;
      for (int64_t j = 0; j < kSquares; ++j) {
        sum.Add(factor[k * kSquares + j], factor[i * kSquares + j]);
      }
      g[k * stride + i] = static_cast<float>(
          sum.value + (i == k ? 0.1 * static_cast<double>(size) : 0));
    }
  }
  return g;
}

TEST(CholeskyTest, IsTheFactor) {
  for (const int64_t size : kSizes) {
    const int64_t stride = size + 3;
    const Buffer<float> g = Definite(size, stride);
    Buffer<float> r;
    r.CopyFrom(g);
    ASSERT_EQ(Cholesky(size, r.data(), stride), -1);
    for (int64_t k = 0; k < size; ++k) {
      for (int64_t i = k; i < size; ++i) {
        Sum sum;
        for (int64_t j = 0; j <= k; ++j) {
          sum.Add(r[j * stride + k], r[j * stride + i]);
        }
        ASSERT_NEAR(sum.value, g[k * stride + i],
                    (size + 4) * kEps * sum.magnitude)
            << size << ": " << k << " " << i;
      }
    }
  }
}

TEST(CholeskyTest, TellsWhichPivotFailed) {
  for (const int64_t size : kSizes) {
    for (const int64_t at : {int64_t{0}, size / 2, size - 1}) {
      for (const float bad : {-1.0f, 0.0f}) {
        Buffer<float> g = Definite(size, size);
        g[at * (size + 1)] = bad;
        EXPECT_EQ(Cholesky(size, g.data(), size), at) << size;
      }
      Buffer<float> g = Definite(size, size);
      g[at * (size + 1)] = kNaN;
      EXPECT_EQ(Cholesky(size, g.data(), size), -1) << size;
      EXPECT_TRUE(std::isnan(g[size * size - 1])) << size;
    }
  }
}

TEST(CholeskyTest, SolvesForwardAndBackward) {
  for (const int64_t size : kSizes) {
    for (const int64_t count : {1, 50}) {
      const int64_t stride = size + 2;
      const int64_t x_stride = count + 1;
      Buffer<float> r = Definite(size, stride);
      ASSERT_EQ(Cholesky(size, r.data(), stride), -1);
      const Buffer<float> b = Random(size * x_stride, 2);
      Buffer<float> x;
      Buffer<float> y;
      x.CopyFrom(b);
      SolveForward(size, r.data(), stride, x.data(), x_stride, count);
      y.CopyFrom(b);
      SolveBackward(size, r.data(), stride, y.data(), x_stride, count);
      for (int64_t k = 0; k < size; ++k) {
        EXPECT_EQ(x[k * x_stride + count], b[k * x_stride + count]);
        EXPECT_EQ(y[k * x_stride + count], b[k * x_stride + count]);
        for (int64_t i = 0; i < count; ++i) {
          Sum forward;
          for (int64_t j = 0; j <= k; ++j) {
            forward.Add(r[j * stride + k], x[j * x_stride + i]);
          }
          Sum backward;
          for (int64_t j = k; j < size; ++j) {
            backward.Add(r[k * stride + j], y[j * x_stride + i]);
          }
          const float right = b[k * x_stride + i];
          ASSERT_NEAR(forward.value, right,
                      (size + 4) * kEps * forward.magnitude)
              << size << ": " << k << " " << i;
          ASSERT_NEAR(backward.value, right,
                      (size + 4) * kEps * backward.magnitude)
              << size << ": " << k << " " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace mobe::internal::cholesky_test
