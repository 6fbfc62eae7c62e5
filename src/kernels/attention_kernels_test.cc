// The kernels of attention and of single tokens, every set against the formulas
// in double; kernels_test.cc says where bounds come from.
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <limits>

#include "kernels/kernels.h"
#include "kernels/testing.h"

namespace mobe {
namespace {

constexpr int64_t kCounts[] = {0, 1, 3, 8, 15, 16, 17, 33, 64, 100, 257};

class AttentionKernelsTest : public testing::TestWithParam<KernelSet> {
 protected:
  const KernelSet& k_ = GetParam();
};

INSTANTIATE_TEST_SUITE_P(All, AttentionKernelsTest,
                         testing::ValuesIn(SupportedKernels()),
                         [](const auto& set) { return set.param.name; });

// Random numbers of a dtype, and what they stand for.
struct StoredTile {
  StoredTile(DType type, int64_t size, int64_t shift)
      : dtype(type),
        values(Random(size, shift)),
        halves(type == DType::kBF16 ? size : 0, shift),
        bytes(type == DType::kI8 ? size : 0, shift) {
    for (int64_t i = 0; i < halves.size(); ++i) {
      halves[i] = ToBFloat16(values[i]);
      values[i] = ToFloat(halves[i]);
    }
    for (int64_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<int8_t>(i * i % 255 - 127);
      values[i] = bytes[i];
    }
  }
  const void* data() const {
    if (dtype == DType::kBF16) return halves.data();
    if (dtype == DType::kI8) return bytes.data();
    return values.data();
  }

  DType dtype;
  Floats values;
  Array<BFloat16> halves;
  Array<int8_t> bytes;
};

void CheckAddProducts(const KernelSet& k, DType dtype, int64_t rows,
                      int64_t inner, int64_t cols) {
  const int64_t shift = cols % 4;
  // One more than they need, so that a stride can't be taken for a size.
  const int64_t a_stride = inner + 1;
  const int64_t stride = cols + 1;
  const Floats a = Random(rows * a_stride, shift);
  const StoredTile b(dtype, inner * stride, shift);
  const Floats before = Random(rows * stride, shift);
  Floats c = Shifted(before, shift);
  k.add_products(rows, inner, cols, a.data(), a_stride,
                 {dtype, b.data(), stride}, c.data(), stride);
  for (int64_t r = 0; r < rows; ++r) {
    ASSERT_EQ(c[r * stride + cols], before[r * stride + cols])
        << "written between the rows of c";
    for (int64_t j = 0; j < cols; ++j) {
      double sum = before[r * stride + j];
      double magnitude = std::abs(sum);
      for (int64_t i = 0; i < inner; ++i) {
        const double term =
            double{a[r * a_stride + i]} * b.values[i * stride + j];
        sum += term;
        magnitude += std::abs(term);
      }
      ASSERT_NEAR(c[r * stride + j], sum, kEps * (inner + 1) * magnitude)
          << DTypeName(dtype) << " " << rows << "x" << inner << "x" << cols;
    }
  }
}

TEST_P(AttentionKernelsTest, AddProducts) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8}) {
    for (const int64_t cols : kCounts) {
      for (const int64_t rows : {0, 1, 2, 3, 7, 8, 9, 21}) {
        CheckAddProducts(k_, dtype, rows, 5, cols);
      }
      CheckAddProducts(k_, dtype, 8, 0, cols);
      CheckAddProducts(k_, dtype, 11, 200, cols);
    }
  }
}

// What lets callers share out rows and columns as they like.
TEST_P(AttentionKernelsTest, AddProductsBitsDependOnNothingElse) {
  constexpr int64_t kRows = 13;
  constexpr int64_t kInner = 37;
  constexpr int64_t kCols = 77;
  const Floats a = Random(kRows * kInner);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8}) {
    const StoredTile b(dtype, kInner * kCols, 0);
    Floats together(kRows * kCols, 0);
    Floats apart(kRows * kCols, 1);
    k_.add_products(kRows, kInner, kCols, a.data(), kInner,
                    {dtype, b.data(), kCols}, together.data(), kCols);
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t j = 0; j < kCols; j += 11) {
        const auto* from =
            static_cast<const char*>(b.data()) + j * DTypeSize(dtype);
        k_.add_products(1, kInner, 11, a.data() + r * kInner, kInner,
                        {dtype, from, kCols}, apart.data() + r * kCols + j,
                        kCols);
      }
    }
    EXPECT_TRUE(together == apart);
  }
}

// Scores in pieces of all sizes have the sum and the weights of a softmax.
TEST_P(AttentionKernelsTest, SoftmaxSteps) {
  for (const float scale : {0.0f, 1.0f, 30.0f}) {
    const Floats scores = Random(700, 1, scale);
    double largest = scores[0];
    for (int64_t i = 0; i < scores.size(); ++i) {
      largest = std::max<double>(largest, scores[i]);
    }
    double want = 0;
    for (int64_t i = 0; i < scores.size(); ++i) {
      want += std::exp(scores[i] - largest);
    }
    float max = kNoScore;
    float sum = 0;
    double sum_in_double = 0;
    int64_t at = 0;
    for (const int64_t count : kCounts) {
      Floats x(count, count % 3);
      std::copy_n(scores.data() + at, count, x.data());
      const float factor = k_.softmax_step(x.data(), count, &max, &sum);
      sum_in_double *= factor;
      for (int64_t j = 0; j < count; ++j) {
        const double y = std::exp(double{scores[at + j]} - max);
        // The difference is rounded, and the result to 1 ulp.
        ASSERT_NEAR(
            x[j], y,
            kEps * y * (1 + std::abs(double{scores[at + j]} - max)) + FLT_MIN);
        sum_in_double += x[j];
      }
      at += count;
    }
    EXPECT_LE(at, scores.size());
    // Of positive terms.
    EXPECT_NEAR(sum, sum_in_double, kEps * 257 * sum_in_double);
  }
}

TEST_P(AttentionKernelsTest, SoftmaxOfExtremes) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  float max = kNoScore;
  float sum = 0;
  // No weight for minus infinity, also before there is any other.
  Floats x(19, 0);
  std::fill_n(x.data(), 19, -kInf);
  EXPECT_EQ(k_.softmax_step(x.data(), 19, &max, &sum), 1);
  EXPECT_EQ(sum, 0);
  std::fill_n(x.data(), 19, -kInf);
  x[3] = 2;
  x[18] = -200;
  EXPECT_EQ(k_.softmax_step(x.data(), 19, &max, &sum), 0);
  EXPECT_EQ(max, 2);
  EXPECT_EQ(sum, 1);
  EXPECT_EQ(x[18], 0);
  // NaN is not lost, wherever it lies.
  for (int64_t i = 0; i < 19; ++i) {
    std::fill_n(x.data(), 19, 1.0f);
    x[i] = kNan;
    max = kNoScore;
    sum = 0;
    k_.softmax_step(x.data(), 19, &max, &sum);
    EXPECT_TRUE(std::isnan(sum)) << i;
  }
}

TEST_P(AttentionKernelsTest, AddAndMultiply) {
  for (const int64_t count : kCounts) {
    const Floats x = Random(count, 1);
    const Floats y = Random(count, 3);
    Floats sum(count, 0);
    Floats product = Shifted(x, 1);
    k_.add(x.data(), y.data(), count, sum.data());
    k_.multiply(product.data(), y.data(), count, product.data());
    for (int64_t j = 0; j < count; ++j) {
      ASSERT_EQ(sum[j], x[j] + y[j]);
      ASSERT_EQ(product[j], x[j] * y[j]);
    }
  }
}

TEST_P(AttentionKernelsTest, RmsNorm) {
  constexpr float kEpsilon = 1e-3f;
  for (const int64_t count : kCounts) {
    if (count == 0) continue;
    Floats x = Random(count, 1);
    const Floats before = Shifted(x, 0);
    const Floats weight = Random(count, 2);
    k_.rms_norm(weight.data(), kEpsilon, x.data(), count, x.data());
    double squares = 0;
    for (int64_t j = 0; j < count; ++j) {
      squares += double{before[j]} * before[j];
    }
    const double scale =
        1 / std::sqrt(squares / static_cast<double>(count) + kEpsilon);
    for (int64_t j = 0; j < count; ++j) {
      const double want = before[j] * scale * weight[j];
      // Half the sum's error, and a few roundings.
      ASSERT_NEAR(x[j], want, kEps * (count / 2.0 + 4) * std::abs(want));
    }
  }
}

TEST_P(AttentionKernelsTest, Rotate) {
  for (const int64_t count : kCounts) {
    const Floats cosines = Random(count, 1);
    const Floats sines = Random(count, 2);
    Floats x = Random(count, 3);
    Floats y = Random(count, 0);
    const Floats a = Shifted(x, 0);
    const Floats b = Shifted(y, 0);
    k_.rotate(cosines.data(), sines.data(), count, x.data(), y.data());
    for (int64_t j = 0; j < count; ++j) {
      const double ac = double{a[j]} * cosines[j];
      const double bs = double{b[j]} * sines[j];
      const double bc = double{b[j]} * cosines[j];
      const double as = double{a[j]} * sines[j];
      ASSERT_NEAR(x[j], ac - bs, 2 * kEps * (std::abs(ac) + std::abs(bs)));
      ASSERT_NEAR(y[j], bc + as, 2 * kEps * (std::abs(bc) + std::abs(as)));
    }
  }
}

TEST_P(AttentionKernelsTest, Int8AndBack) {
  for (const int64_t count : kCounts) {
    for (const float most : {1e-20f, 1.0f, 1e30f}) {
      const Floats x = Random(count, 1, most);
      Array<int8_t> stored(count, 3);
      Floats back(count, 2);
      const float scale = k_.to_int8(x.data(), count, stored.data()).scale;
      k_.from_int8(stored.data(), count, back.data());
      double largest = 0;
      for (int64_t j = 0; j < count; ++j) {
        largest = std::max<double>(largest, std::abs(x[j]));
      }
      ASSERT_NEAR(scale, largest / 127, 2 * kEps * scale);
      bool is_reached = count == 0;
      for (int64_t j = 0; j < count; ++j) {
        ASSERT_EQ(back[j], stored[j]);
        ASSERT_NEAR(stored[j] * double{scale}, x[j],
                    scale * (0.5 + 127 * 4 * kEps));
        is_reached |= std::abs(stored[j]) == 127;
      }
      ASSERT_TRUE(is_reached);
    }
  }
}

TEST_P(AttentionKernelsTest, Int8OfExtremes) {
  for (int64_t i = 0; i < 37; ++i) {
    Floats x = Random(37);
    Array<int8_t> y(37, 0);
    for (const float bad : {std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
      x[i] = bad;
      EXPECT_TRUE(std::isnan(k_.to_int8(x.data(), 37, y.data()).scale));
      for (int64_t j = 0; j < 37; ++j) EXPECT_EQ(y[j], 0);
    }
  }
  Floats x(37, 0);
  Array<int8_t> y(37, 0);
  for (const float tiny : {0.0f, 1e-40f}) {
    std::fill_n(x.data(), 37, tiny);
    EXPECT_LE(k_.to_int8(x.data(), 37, y.data()).scale, 1e-30f);
    for (int64_t j = 0; j < 37; ++j) EXPECT_EQ(y[j], 0);
  }
}

}  // namespace
}  // namespace mobe
