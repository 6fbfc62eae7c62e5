// The triangles of every kernel set, against their definitions in double, as in
// kernels_test.cc. There is NaN where the kernels may not look.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/kernels.h"
#include "kernels/testing.h"

namespace mobe {
namespace {

// An upper triangular matrix [n, n], rows `stride` apart, that is far from
// singular: its diagonal outweighs a column. NaN below the diagonal and beyond
// the columns, which nobody may use.
Floats RandomTriangle(int64_t n, int64_t stride, int64_t shift) {
  Floats t = Random((n - 1) * stride + n, shift);
  const float diagonal = 1 + std::sqrt(static_cast<float>(n));
  for (int64_t k = 0; k < n; ++k) {
    for (int64_t i = 0; i < stride && k * stride + i < t.size(); ++i) {
      float& value = t[k * stride + i];
      if (i < k || i >= n) value = std::numeric_limits<float>::quiet_NaN();
      if (i == k) value = diagonal + std::abs(value);
    }
  }
  return t;
}

constexpr int64_t kTriangles[] = {1, 2, 5, 8, 16, 17, 31, 63, 96, kMaxTriangle};

class TriangleKernelsTest : public testing::TestWithParam<KernelSet> {
 protected:
  const KernelSet& k_ = GetParam();
};

INSTANTIATE_TEST_SUITE_P(All, TriangleKernelsTest,
                         testing::ValuesIn(SupportedKernels()),
                         [](const auto& set) { return set.param.name; });

// The backward error of Cholesky's method in any order (Higham, theorem 10.3):
// R^T R - G is at most (n + 1) eps |R^T| |R|, and here another eps for the
// reciprocal of each pivot's root.
TEST_P(TriangleKernelsTest, Cholesky) {
  for (const int64_t n : kTriangles) {
    const int64_t stride = n + n % 3;
    const Floats root = RandomTriangle(n, stride, 0);
    Floats g = Shifted(root, n % 4);
    for (int64_t k = 0; k < n; ++k) {
      for (int64_t i = k; i < n; ++i) {
        double sum = 0;
        for (int64_t j = 0; j <= k; ++j) {
          sum += double{root[j * stride + k]} * root[j * stride + i];
        }
        g[k * stride + i] = static_cast<float>(sum);
      }
    }
    Floats r = Shifted(g, n % 4);
    ASSERT_EQ(k_.cholesky(n, r.data(), stride), -1);
    for (int64_t k = 0; k < n; ++k) {
      for (int64_t i = 0; i < stride && k * stride + i < r.size(); ++i) {
        if (i < k || i >= n) {
          ASSERT_TRUE(std::isnan(r[k * stride + i])) << "written";
          continue;
        }
        double sum = 0;
        double magnitude = 0;
        for (int64_t j = 0; j <= k; ++j) {
          const double term = double{r[j * stride + k]} * r[j * stride + i];
          sum += term;
          magnitude += std::abs(term);
        }
        ASSERT_NEAR(sum, g[k * stride + i], (n + 4) * kEps * magnitude)
            << n << ": " << k << " " << i;
      }
    }
    // In the middle of blocks and vectors.
    const int64_t at = n * 2 / 3;
    Floats broken = Shifted(g, 0);
    for (int64_t j = 0; j < at; ++j) broken[j * stride + at] = 0;
    for (const float bad : {-1.0f, 0.0f}) {
      Floats copy = Shifted(broken, 0);
      copy[at * stride + at] = bad;
      EXPECT_EQ(k_.cholesky(n, copy.data(), stride), at);
    }
    broken[at * stride + at] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(k_.cholesky(n, broken.data(), stride), -1);
    EXPECT_TRUE(std::isnan(broken[at * stride + at]));
  }
}

// The same theory (theorem 8.5): what is left of the right side is at most
// (n + 1) eps |T^T| |x|.
TEST_P(TriangleKernelsTest, SolveTriangle) {
  for (const int64_t n : kTriangles) {
    for (const int64_t count : {0, 1, 7, 16, 48, 50, 96, 131}) {
      const int64_t stride = n + n % 3;
      const int64_t x_stride = count + n % 5;
      const Floats t = RandomTriangle(n, stride, n % 4);
      const Floats b = Random((n - 1) * x_stride + count, count % 4);
      for (const bool backward : {false, true}) {
        Floats x = Shifted(b, count % 4);
        if (backward) {
          k_.solve_triangle(n, t.data() + (n - 1) * (stride + 1), -1, -stride,
                            x.data() + (n - 1) * x_stride, -x_stride, count);
        } else {
          k_.solve_triangle(n, t.data(), stride, 1, x.data(), x_stride, count);
        }
        for (int64_t k = 0; k < n; ++k) {
          for (int64_t i = 0; i < count; ++i) {
            double sum = 0;
            double magnitude = 0;
            for (int64_t j = 0; j < n; ++j) {
              if (backward ? j < k : j > k) continue;
              const double term =
                  double{backward ? t[k * stride + j] : t[j * stride + k]} *
                  x[j * x_stride + i];
              sum += term;
              magnitude += std::abs(term);
            }
            ASSERT_NEAR(sum, b[k * x_stride + i], (n + 4) * kEps * magnitude)
                << n << "x" << count << ": " << k << " " << i;
          }
        }
        // Between rows nothing is written.
        for (int64_t k = 0; k + 1 < n; ++k) {
          for (int64_t i = count; i < x_stride; ++i) {
            ASSERT_EQ(x[k * x_stride + i], b[k * x_stride + i]);
          }
        }
        // Each column is solved alike, whatever lies beside it.
        for (const int64_t i : {int64_t{0}, count / 2, count - 1}) {
          if (count == 0) break;
          Floats one(n, 0);
          for (int64_t k = 0; k < n; ++k) one[k] = b[k * x_stride + i];
          if (backward) {
            k_.solve_triangle(n, t.data() + (n - 1) * (stride + 1), -1, -stride,
                              one.data() + n - 1, -1, 1);
          } else {
            k_.solve_triangle(n, t.data(), stride, 1, one.data(), 1, 1);
          }
          for (int64_t k = 0; k < n; ++k) {
            ASSERT_EQ(one[k], x[k * x_stride + i]) << n << "x" << count;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace mobe
