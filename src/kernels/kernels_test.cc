// Every kernel set, scalar among them, against the formulas in double. Bounds
// are those of rounding-error analysis (Higham, Accuracy and Stability of
// Numerical Algorithms, section 3.1): a sum of n products in any order is off
// by at most n eps sum |a b|, eps the distance from 1 to the next float. Arrays
// are exactly as long as the kernel may read, for the address sanitizer.
#include "kernels/kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cfloat>
#include <cmath>
#include <limits>

#include "kernels/testing.h"

namespace mobe {
namespace {

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kTanh,
                                       Activation::kIdentity};
constexpr DType kDTypes[] = {DType::kF32, DType::kBF16};
constexpr int64_t kSizes[] = {0,  1,  2,  3,  7,   8,   15,  16,
                              17, 31, 33, 64, 100, 257, 1500};
// Elements by which pointers are off the allocator's alignment.
constexpr int64_t kShifts[] = {0, 1, 3};

// Random values as stored in a dtype, and as floats.
struct StoredValues {
  StoredValues(DType type, int64_t size, int64_t shift)
      : dtype(type),
        values(Random(size, shift)),
        halves(type == DType::kBF16 ? size : 0, shift) {
    for (int64_t i = 0; i < halves.size(); ++i) {
      halves[i] = ToBFloat16(values[i]);
      values[i] = ToFloat(halves[i]);
    }
  }
  const void* data() const {
    if (dtype == DType::kBF16) return halves.data();
    return values.data();
  }

  DType dtype;
  Floats values;
  Array<BFloat16> halves;
};

double Value(Activation f, double x) {
  if (f == Activation::kSilu) return x / (1 + std::exp(-x));
  return f == Activation::kTanh ? std::tanh(x) : x;
}

double Slope(Activation f, double x) {
  const double s = 1 / (1 + std::exp(-x));
  if (f == Activation::kSilu) return s * (1 + x * (1 - s));
  return f == Activation::kTanh ? 1 - std::tanh(x) * std::tanh(x) : 1;
}

// Highway documents 1 ulp for Exp and 4 for Tanh; silu adds two roundings. The
// constant is for results where e^-x overflows or the result is subnormal.
double ValueBound(Activation f, double x) {
  if (f == Activation::kIdentity) return 0;
  return 4 * kEps * std::abs(Value(f, x)) + 100 * FLT_MIN;
}

// silu' = s (1 + x (1 - s)): each factor carries a few eps, and 1 + x (1 - s)
// cancels, so the bound is that of its terms. tanh' = 1 - t^2 likewise, with
// twice tanh's 4.
double SlopeBound(Activation f, double x) {
  const double s = 1 / (1 + std::exp(-x));
  if (f == Activation::kSilu) {
    return 8 * kEps * s * (1 + std::abs(x)) + 100 * FLT_MIN;
  }
  const double t = std::tanh(x);
  return f == Activation::kTanh ? kEps * (8 * t * t + 1) : 0;
}

struct Bounded {
  double value = 0;
  double magnitude = 0;  // the sum of the terms' absolute values
  double error = 0;
};

// f(sum_i alpha_i bases_i[j]) where bases are `stride` apart. No activation has
// a slope above 1.1.
Bounded Mix(const Floats& bases, int64_t stride, const Floats& alpha, int64_t j,
            Activation f) {
  double sum = 0;
  double magnitude = 0;
  for (int64_t i = 0; i < alpha.size(); ++i) {
    const double term = double{alpha[i]} * bases[i * stride + j];
    sum += term;
    magnitude += std::abs(term);
  }
  return {Value(f, sum), magnitude,
          1.1 * kEps * alpha.size() * magnitude + ValueBound(f, sum)};
}

class KernelsTest : public testing::TestWithParam<KernelSet> {
 protected:
  const KernelSet& k_ = GetParam();

  void CheckMatVec(const WeightView& w, const Floats& values, int64_t tokens,
                   int64_t shift) const;
  void CheckMatVec(DType dtype, int64_t rows, int64_t cols, int64_t tokens,
                   int64_t shift) const {
    const StoredValues w(dtype, rows * cols, shift);
    CheckMatVec({*FormatOf(dtype), w.data(), rows, cols}, w.values, tokens,
                shift);
  }
  void CheckMix(DType dtype, int64_t num_bases, int64_t rank, int64_t cols,
                Activation f, int64_t shift) const;
};

INSTANTIATE_TEST_SUITE_P(All, KernelsTest,
                         testing::ValuesIn(SupportedKernels()),
                         [](const auto& set) { return set.param.name; });

void KernelsTest::CheckMatVec(const WeightView& w, const Floats& values,
                              int64_t tokens, int64_t shift) const {
  const int64_t rows = w.rows;
  const int64_t cols = w.cols;
  // One more than they need, so that a stride can't be taken for a size.
  const int64_t x_stride = cols + 1;
  const int64_t y_stride = rows + 1;
  const Floats x = Random(tokens * x_stride - 1, shift);
  Floats y(tokens * y_stride - 1, shift);
  std::fill_n(y.data(), y.size(), -7.0f);
  k_.mat_vec(w, x.data(), x_stride, tokens, y.data(), y_stride);
  // A scale rounds each term once more, and so are `values`: eps / 2 each.
  const int64_t roundings = cols + (w.scales != nullptr ? 1 : 0);
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t t = i / y_stride;
    const int64_t r = i % y_stride;
    if (r == rows) {
      ASSERT_EQ(y[i], -7.0f) << "written between the rows of y";
      continue;
    }
    double sum = 0;
    double magnitude = 0;
    for (int64_t c = 0; c < cols; ++c) {
      const double term = double{values[r * cols + c]} * x[t * x_stride + c];
      sum += term;
      magnitude += std::abs(term);
    }
    ASSERT_NEAR(y[i], sum, kEps * roundings * magnitude)
        << RowOf(w.format).name << " " << rows << "x" << cols << "x" << tokens;
  }
}

TEST_P(KernelsTest, MatVec) {
  for (const DType dtype : kDTypes) {
    for (const int64_t cols : kSizes) {
      for (const int64_t rows : {1, 3, 4, 9}) {
        for (int64_t tokens = 1; tokens <= 9; ++tokens) {
          CheckMatVec(dtype, rows, cols, tokens, cols % 4);
        }
      }
    }
    CheckMatVec(dtype, 0, 5, 3, 0);
    CheckMatVec(dtype, 70, 257, 3, 1);  // long enough to prefetch
  }
}

struct Block {
  int64_t rows, cols;
};
// Smaller than a vector, no multiple of one, whole pieces, and wider than any
// matrix.
constexpr Block kBlocks[] = {{1, 1},     {3, 5},
                             {2, 130},   {128, 128},
                             {128, 200}, {int64_t{1} << 31, int64_t{1} << 31}};

TEST_P(KernelsTest, MatVecOfFloat8) {
  for (const auto& [block_rows, block_cols] : kBlocks) {
    for (const int64_t cols : kSizes) {
      for (const int64_t rows : {1, 3, 4, 9}) {
        const Float8Matrix w(rows, cols, block_rows, block_cols, cols % 4);
        for (const int64_t tokens : {1, 2, 3, 4, 9}) {
          CheckMatVec(w.view, w.values, tokens, cols % 4);
        }
      }
    }
    const Float8Matrix w(150, 257, block_rows, block_cols, 1);
    CheckMatVec(w.view, w.values, 3, 1);  // long enough to prefetch
  }
}

// What lets callers split rows over threads and gather tokens as they like.
TEST_P(KernelsTest, MatVecBitsDependOnNothingElse) {
  constexpr int64_t kRows = 13;
  constexpr int64_t kCols = 203;
  constexpr int64_t kTokens = 11;
  const StoredValues floats(DType::kF32, kRows * kCols, 0);
  const StoredValues halves(DType::kBF16, kRows * kCols, 0);
  const Float8Matrix bytes(kRows, kCols, 5, 128);
  for (const WeightView& w :
       {WeightView{NumberFormat::kF32, floats.data(), kRows, kCols},
        WeightView{NumberFormat::kBF16, halves.data(), kRows, kCols},
        bytes.view}) {
    const Floats x = Random(kTokens * kCols);
    Floats together(kTokens * kRows, 0);
    k_.mat_vec(w, x.data(), kCols, kTokens, together.data(), kRows);
    Floats apart(kTokens * kRows, 1);
    const Floats moved = Shifted(x, 1);
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t r = 0; r < kRows; ++r) {
        k_.mat_vec(w.Rows(r, 1), moved.data() + t * kCols, kCols, 1,
                   apart.data() + t * kRows + r, kRows);
      }
    }
    EXPECT_TRUE(together == apart);
  }
}

void KernelsTest::CheckMix(DType dtype, int64_t num_bases, int64_t rank,
                           int64_t cols, Activation f, int64_t shift) const {
  const int64_t stride = rank * cols;
  const StoredValues w(dtype, num_bases * stride, shift);
  const BasesView bases = {dtype, w.data(), num_bases, rank, cols};
  const Floats alpha = Random(num_bases, shift);
  const auto where = testing::Message()
                     << DTypeName(dtype) << " " << num_bases << "x" << rank
                     << "x" << cols << " " << ActivationName(f);
  // The mix, from an odd place.
  const int64_t first = stride > 2 ? 1 : 0;
  Floats out(stride - first, shift);
  k_.basis_mix(bases, alpha.data(), first, out.size(), f, out.data());
  for (int64_t j = 0; j < out.size(); ++j) {
    const Bounded want = Mix(w.values, stride, alpha, first + j, f);
    ASSERT_NEAR(out[j], want.value, want.error) << where;
  }
  // The product, from the second row.
  constexpr int64_t kTokens = 3;
  const int64_t x_stride = cols + 1;
  const int64_t rows = rank - 1;
  const int64_t u_stride = rows + 2;
  const Floats x = Random(kTokens * x_stride - 1, shift);
  Floats u(kTokens * u_stride - 2, shift);
  k_.mix_mat_vec(bases, alpha.data(), 1, rows, f, x.data(), x_stride, kTokens,
                 u.data(), u_stride);
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t k = 0; k < rows; ++k) {
      Bounded want;
      for (int64_t j = 0; j < cols; ++j) {
        const Bounded mix = Mix(w.values, stride, alpha, (k + 1) * cols + j, f);
        const double in = x[t * x_stride + j];
        want.value += mix.value * in;
        want.error += (mix.error + kEps * cols * std::abs(mix.value)) *
                      std::abs(in) * (1 + kEps * cols);
      }
      ASSERT_NEAR(u[t * u_stride + k], want.value, want.error) << where;
    }
  }
}

TEST_P(KernelsTest, BasisMixAndProduct) {
  for (const DType dtype : kDTypes) {
    for (const Activation f : kActivations) {
      for (const int64_t cols : kSizes) {
        for (const int64_t num_bases : {1, 4, 7}) {
          CheckMix(dtype, num_bases, 3, cols, f, cols % 4);
        }
      }
      CheckMix(dtype, 0, 3, 20, f, 0);
      CheckMix(dtype, 33, 2, 2053, f, 1);
    }
  }
}

// A basis without weight is not read: the mix is that of the others, to the
// bit, wherever they are.
TEST_P(KernelsTest, SkipsBasesOfZeroAlpha) {
  constexpr int64_t kRank = 2;
  constexpr int64_t kCols = 2101;
  constexpr int64_t kSize = kRank * kCols;
  constexpr int64_t kTokens = 3;
  const Floats x = Random(kTokens * kCols);
  for (const DType dtype : kDTypes) {
    for (const std::string kept : {"#", ".", "..##.#", "#....###.#..##.#."}) {
      const auto m = static_cast<int64_t>(kept.size());
      const auto count = std::count(kept.begin(), kept.end(), '#');
      const StoredValues few(dtype, count * kSize, 0);
      const Floats few_alpha = Random(count);
      const int64_t size = DTypeSize(dtype);
      std::vector<char> bytes(m * kSize * size, '\xff');  // NaN in both
      Floats alpha(m, 0);
      int64_t next = 0;
      for (int64_t i = 0; i < m; ++i) {
        alpha[i] = 0;
        if (kept[i] == '.') continue;
        std::memcpy(bytes.data() + i * kSize * size,
                    static_cast<const char*>(few.data()) + next * kSize * size,
                    kSize * size);
        alpha[i] = few_alpha[next++];
      }
      const auto run = [&](const BasesView& bases, const Floats& weights) {
        Floats out(kSize + kTokens * kRank, 0);
        k_.basis_mix(bases, weights.data(), 0, kSize, Activation::kSilu,
                     out.data());
        k_.mix_mat_vec(bases, weights.data(), 0, kRank, Activation::kSilu,
                       x.data(), kCols, kTokens, out.data() + kSize, kRank);
        return out;
      };
      EXPECT_TRUE(run({dtype, bytes.data(), m, kRank, kCols}, alpha) ==
                  run({dtype, few.data(), count, kRank, kCols}, few_alpha))
          << kept;
    }
  }
}

// The fused product is the mix followed by the product, to the bit, and the mix
// may be made in parts.
TEST_P(KernelsTest, FusedBitsEqualUnfused) {
  constexpr int64_t kBases = 6;
  constexpr int64_t kRank = 5;
  constexpr int64_t kCols = 2201;
  constexpr int64_t kTokens = 9;
  for (const DType dtype : kDTypes) {
    const StoredValues w(dtype, kBases * kRank * kCols, 1);
    const BasesView bases = {dtype, w.data(), kBases, kRank, kCols};
    const Floats alpha = Random(kBases);
    const Floats x = Random(kTokens * kCols);
    Floats whole(kRank * kCols, 0);
    Floats parts(kRank * kCols, 3);
    k_.basis_mix(bases, alpha.data(), 0, whole.size(), Activation::kSilu,
                 whole.data());
    for (int64_t j = 0; j < parts.size(); j += 77) {
      k_.basis_mix(bases, alpha.data(), j,
                   std::min<int64_t>(77, parts.size() - j), Activation::kSilu,
                   parts.data() + j);
    }
    EXPECT_TRUE(whole == parts);
    Floats unfused(kTokens * kRank, 0);
    Floats fused(kTokens * kRank, 0);
    k_.mat_vec({NumberFormat::kF32, whole.data(), kRank, kCols}, x.data(),
               kCols, kTokens, unfused.data(), kRank);
    k_.mix_mat_vec(bases, alpha.data(), 0, kRank, Activation::kSilu, x.data(),
                   kCols, kTokens, fused.data(), kRank);
    EXPECT_TRUE(fused == unfused);
  }
}

TEST_P(KernelsTest, FromFloat8) {
  Array<Float8> all(256, 1);
  for (int64_t i = 0; i < 256; ++i) all[i] = {static_cast<uint8_t>(i)};
  for (const float scale : {1.0f, -0.3f, 1e30f, 1e-40f}) {
    for (int64_t count = 0; count <= 256; count += count < 40 ? 1 : 27) {
      Floats y(count, 3);
      k_.from_float8(all.data(), count, scale, y.data());
      for (int64_t i = 0; i < count; ++i) {
        const float want = scale * ToFloat(all[i]);
        // The bits: -0 is not 0. NaN may be any.
        if (std::isnan(want)) {
          EXPECT_TRUE(std::isnan(y[i])) << i;
        } else {
          EXPECT_EQ(std::bit_cast<uint32_t>(y[i]),
                    std::bit_cast<uint32_t>(want))
              << i;
        }
      }
    }
  }
}

// One in a row of good weights.
TEST_P(KernelsTest, NotANumberInFloat8) {
  Float8Matrix w(5, 200, 128, 128);
  w.stored[2 * 200 + 150] = {0xff};
  const Floats x = Random(200);
  Floats y(5, 0);
  k_.mat_vec(w.view, x.data(), 200, 1, y.data(), 5);
  for (int64_t r = 0; r < 5; ++r) EXPECT_EQ(std::isnan(y[r]), r == 2) << r;
}

TEST_P(KernelsTest, Activations) {
  for (const Activation f : kActivations) {
    for (const int64_t size : kSizes) {
      for (const int64_t shift : kShifts) {
        const Floats x = Random(size, shift, 10.0f);
        const Floats g = Random(size, shift);
        Floats y(size, shift);
        Floats d(size, shift);
        k_.activate(f, x.data(), size, y.data());
        k_.activate_backward(f, x.data(), g.data(), size, d.data());
        for (int64_t j = 0; j < size; ++j) {
          ASSERT_NEAR(y[j], Value(f, x[j]), ValueBound(f, x[j])) << x[j];
          const double slope = Slope(f, x[j]);
          const double error = SlopeBound(f, x[j]) + kEps * std::abs(slope);
          ASSERT_NEAR(d[j], g[j] * slope, std::abs(g[j]) * error + FLT_MIN)
              << ActivationName(f) << " " << x[j];
        }
        // In place, with the same bits.
        Floats in_x = Shifted(x, 0);
        k_.activate(f, in_x.data(), size, in_x.data());
        EXPECT_TRUE(in_x == y);
        in_x = Shifted(x, shift);
        Floats in_g = Shifted(g, shift);
        k_.activate_backward(f, x.data(), in_g.data(), size, in_g.data());
        k_.activate_backward(f, in_x.data(), g.data(), size, in_x.data());
        EXPECT_TRUE(in_x == d);
        EXPECT_TRUE(in_g == d);
      }
    }
  }
}

TEST_P(KernelsTest, ActivationsFarOutAndNaN) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  struct Case {
    Activation f;
    float x, value, slope;
  };
  for (const Case& c : {Case{Activation::kSilu, 1e4f, 1e4f, 1},
                        {Activation::kSilu, 105, 105, 1},
                        {Activation::kSilu, -105, 0, 0},
                        {Activation::kSilu, -1e4f, 0, 0},
                        {Activation::kSilu, 0, 0, 0.5f},
                        {Activation::kSilu, kNaN, kNaN, kNaN},
                        {Activation::kTanh, 1e4f, 1, 0},
                        {Activation::kTanh, -1e4f, -1, 0},
                        {Activation::kTanh, 0, 0, 1},
                        {Activation::kTanh, kNaN, kNaN, kNaN},
                        {Activation::kIdentity, 1e4f, 1e4f, 1},
                        {Activation::kIdentity, kNaN, kNaN, 1}}) {
    constexpr int64_t kSize = 37;  // whole vectors and an end, in every set
    Floats x(kSize, 0);
    Floats one(kSize, 0);
    Floats y(kSize, 0);
    Floats d(kSize, 0);
    std::fill_n(x.data(), kSize, c.x);
    std::fill_n(one.data(), kSize, 1.0f);
    k_.activate(c.f, x.data(), kSize, y.data());
    k_.activate_backward(c.f, x.data(), one.data(), kSize, d.data());
    for (int64_t j = 0; j < kSize; ++j) {
      EXPECT_THAT(y[j], testing::NanSensitiveFloatEq(c.value)) << c.x;
      EXPECT_THAT(d[j], testing::NanSensitiveFloatEq(c.slope)) << c.x;
    }
    if (c.f == Activation::kSilu) {
      k_.swiglu(x.data(), one.data(), kSize, d.data());
      EXPECT_TRUE(d == y);
    }
  }
}

TEST_P(KernelsTest, Swiglu) {
  for (const int64_t size : kSizes) {
    for (const int64_t shift : kShifts) {
      const Floats gate = Random(size, shift, 5.0f);
      const Floats up = Random(size, shift);
      Floats y(size, shift);
      k_.swiglu(gate.data(), up.data(), size, y.data());
      for (int64_t j = 0; j < size; ++j) {
        const double silu = Value(Activation::kSilu, gate[j]);
        const double error = ValueBound(Activation::kSilu, gate[j]);
        ASSERT_NEAR(y[j], silu * up[j],
                    std::abs(up[j]) * (error + kEps * std::abs(silu)));
      }
      Floats in_gate = Shifted(gate, shift);
      Floats in_up = Shifted(up, shift);
      k_.swiglu(in_gate.data(), up.data(), size, in_gate.data());
      k_.swiglu(gate.data(), in_up.data(), size, in_up.data());
      EXPECT_TRUE(in_gate == y);
      EXPECT_TRUE(in_up == y);
    }
  }
}

TEST_P(KernelsTest, Adam) {
  const AdamStep step = {.step_size = 0.07f, .denominator_scale = 1.5f};
  for (const int64_t size : kSizes) {
    for (const int64_t shift : kShifts) {
      const Floats g = Random(size, shift);
      Floats value = Random(size, shift);
      Floats first = Random(size, shift);
      Floats second = Random(size, shift);
      for (int64_t j = 0; j < size; ++j) second[j] = std::abs(second[j]);
      const Floats old_value = Shifted(value, 0);
      const Floats old_first = Shifted(first, 0);
      const Floats old_second = Shifted(second, 0);
      k_.adam(step, g.data(), size, value.data(), first.data(), second.data());
      for (int64_t j = 0; j < size; ++j) {
        // 1 - beta is part of the step, rounded to float.
        const double a = double{step.beta1} * old_first[j];
        const double b = double{1 - step.beta1} * g[j];
        const double m_error = 2 * kEps * (std::abs(a) + std::abs(b));
        const double v = double{step.beta2} * old_second[j] +
                         double{1 - step.beta2} * g[j] * g[j];
        const double denominator =
            std::sqrt(v) * step.denominator_scale + step.epsilon;
        const double update = step.step_size * (a + b) / denominator;
        ASSERT_NEAR(first[j], a + b, m_error);
        ASSERT_NEAR(second[j], v, 2 * kEps * v);
        ASSERT_NEAR(value[j], old_value[j] - update,
                    kEps * std::abs(old_value[j]) +
                        5 * kEps * std::abs(update) +
                        step.step_size * m_error / denominator);
      }
    }
  }
}

TEST_P(KernelsTest, Subtract) {
  for (const int64_t size : kSizes) {
    for (const int64_t shift : kShifts) {
      const Floats a = Random(size, shift);
      const Floats b = Random(size, shift);
      Floats e(size, shift);
      const double squares = k_.subtract(a.data(), 1, b.data(), size, e.data());
      double sum = 0;
      for (int64_t j = 0; j < size; ++j) {
        ASSERT_EQ(e[j], a[j] - b[j]);
        sum += double{e[j]} * e[j];
      }
      // Float32 sums are of at most 1024 squares.
      ASSERT_NEAR(squares, sum, kEps * std::min<double>(size, 1024) * sum);
      Floats in_a = Shifted(a, shift);
      Floats in_b = Shifted(b, shift);
      EXPECT_EQ(k_.subtract(in_a.data(), 1, b.data(), size, in_a.data()),
                squares);
      EXPECT_EQ(k_.subtract(a.data(), 1, in_b.data(), size, in_b.data()),
                squares);
      EXPECT_TRUE(in_a == e);
      EXPECT_TRUE(in_b == e);
      // With a scale: to the roundings of the product, which may be fused, and
      // of both differences.
      constexpr float kScale = 3.7f;
      k_.subtract(a.data(), kScale, b.data(), size, e.data());
      for (int64_t j = 0; j < size; ++j) {
        const float product = kScale * b[j];
        ASSERT_NEAR(e[j], a[j] - product,
                    0x1p-24f * (std::fabs(product) + 2.01f * std::fabs(e[j])));
      }
    }
  }
}

// Every upper half with the lower halves at and around a tie: all signs,
// exponents, infinities and NaNs.
TEST_P(KernelsTest, ToBFloat16IsExact) {
  const uint32_t lows[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
  for (const uint32_t low : lows) {
    Floats x(65536 + 5, 1);  // an end that no vector divides
    Array<BFloat16> y(x.size(), 1);
    for (int64_t i = 0; i < x.size(); ++i) {
      x[i] = std::bit_cast<float>(static_cast<uint32_t>(i << 16) | low);
    }
    k_.to_bfloat16(x.data(), x.size(), y.data());
    for (int64_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(y[i].bits, ToBFloat16(x[i]).bits) << i << " " << low;
    }
  }
}

TEST_P(KernelsTest, FromBFloat16IsExact) {
  Array<BFloat16> x(65536 + 5, 1);
  Floats y(x.size(), 1);
  for (int64_t i = 0; i < x.size(); ++i) {
    x[i].bits = static_cast<uint16_t>(i);
  }
  k_.from_bfloat16(x.data(), x.size(), y.data());
  for (int64_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(y[i]), uint32_t{x[i].bits} << 16);
  }
}

TEST_P(KernelsTest, ConversionsOfEverySize) {
  for (const int64_t size : kSizes) {
    for (const int64_t shift : kShifts) {
      const Floats x = Random(size, shift);
      Array<BFloat16> halves(size, shift);
      Floats y(size, shift);
      k_.to_bfloat16(x.data(), size, halves.data());
      k_.from_bfloat16(halves.data(), size, y.data());
      for (int64_t i = 0; i < size; ++i) {
        ASSERT_EQ(y[i], ToFloat(ToBFloat16(x[i])));
      }
    }
  }
}

}  // namespace
}  // namespace mobe
