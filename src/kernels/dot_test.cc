#include "kernels/dot.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>

#include "kernels/kernels.h"
#include "kernels/testing.h"

namespace mobe {
namespace {

// A random matrix as a format stores it, and what that stands for.
struct Packed {
  Packed(const FormatRow& format, int64_t rows, int64_t cols)
      : sizes(PackedSizesOf(format, cols)),
        codes(RowBlocks(rows) * sizes.code_bytes),
        scales(RowBlocks(rows) * sizes.scale_bytes()),
        given(Random(rows * cols)),
        values(rows * cols, 0),
        view{format.format, codes.data(), rows, cols, scales.data()} {
    for (int64_t b = 0; b < RowBlocks(rows); ++b) {
      EncodePacked(format, given.data() + b * kPackedRows * cols,
                   std::min(kPackedRows, rows - b * kPackedRows), cols, nullptr,
                   codes.data() + b * sizes.code_bytes,
                   scales.data() + b * sizes.scale_bytes());
    }
    DecodePacked(view, 0, cols, values.data());
  }
  PackedSizes sizes;
  Buffer<std::byte> codes, scales;
  Floats given, values;
  WeightView view;
};

RoundedInputs Rounded(const FormatRow& format, const Floats& x, int64_t cols,
                      int64_t tokens) {
  RoundedInputs inputs;
  inputs.Resize(format, cols, tokens);
  for (int64_t t = 0; t < tokens; ++t) {
    RoundToInt15(format, x.data() + t * cols, cols, t, &inputs);
  }
  return inputs;
}

std::vector<const FormatRow*> PackedFormats() {
  std::vector<const FormatRow*> formats;
  for (const FormatRow& format : Formats()) {
    if (format.packed()) formats.push_back(&format);
  }
  return formats;
}

// The error of a group is at most half a step of its scale, which is at most
// the largest number over most(), and for few bits a little more.
TEST(PackedTest, RoundsToTheNearestCode) {
  for (const FormatRow* format : PackedFormats()) {
    for (const int64_t cols : {1, 31, 64, 100, 200}) {
      const Packed w(*format, 19, cols);
      for (int64_t r = 0; r < 19; ++r) {
        double error = 0;
        double square = 0;
        for (int64_t c = 0; c < cols; ++c) {
          const double given = w.given[r * cols + c];
          error += std::pow(given - w.values[r * cols + c], 2);
          square += given * given;
        }
        // Uniform within a step of about 2.5 deviations over most().
        const double step = 2.5 / format->most();
        EXPECT_LT(std::sqrt(error / square), step) << format->name << cols;
      }
    }
  }
}

TEST(PackedTest, RepresentableNumbersComeBack) {
  for (const FormatRow* format : PackedFormats()) {
    const int64_t cols = format->group + 5;
    Floats given(3 * cols, 0);
    const int step = IsOdd(format->bits) ? 2 : 1;
    for (int64_t i = 0; i < given.size(); ++i) {
      const int64_t code = format->most() - step * (i % format->most());
      given[i] = 0.5f * static_cast<float>(i % cols % format->group == 0
                                               ? format->most()
                                               : code);
    }
    const PackedSizes sizes = PackedSizesOf(*format, cols);
    Buffer<std::byte> codes(sizes.code_bytes);
    Buffer<std::byte> scales(sizes.scale_bytes());
    EncodePacked(*format, given.data(), 3, cols, nullptr, codes.data(),
                 scales.data());
    const WeightView w{format->format, codes.data(), 3, cols, scales.data()};
    Floats out(3 * cols, 0);
    DecodePacked(w, 0, cols, out.data());
    EXPECT_TRUE(out == given) << format->name;
  }
}

// Any rows and columns of it are those of the whole.
TEST(PackedTest, PartsAreThoseOfTheWhole) {
  for (const FormatRow* format : PackedFormats()) {
    const Packed w(*format, 37, 150);
    for (const int64_t row : {0, 5, 15, 16, 30}) {
      for (const int64_t first : {0, 3, 64, 149}) {
        const int64_t count = std::min<int64_t>(70, 150 - first);
        Floats out(7 * count, 0);
        DecodePacked(w.view.Rows(row, 7), first, count, out.data());
        for (int64_t i = 0; i < out.size(); ++i) {
          ASSERT_EQ(out[i],
                    w.values[(row + i / count) * 150 + first + i % count])
              << format->name << row << " " << first;
        }
      }
    }
  }
}

// By their definition, in double, from the rounded inputs.
TEST(DotTest, ScalarIsTheSumOfProducts) {
  const DotKernels& scalar = SupportedDots().back();
  for (const FormatRow* format : PackedFormats()) {
    constexpr int64_t kRows = 21;
    constexpr int64_t kCols = 203;
    constexpr int64_t kTokens = 3;
    const Packed w(*format, kRows, kCols);
    const Floats x = Random(kTokens * kCols);
    const RoundedInputs inputs = Rounded(*format, x, kCols, kTokens);
    Floats y(kTokens * kRows, 0);
    scalar.multiply(w.view, inputs, 0, kTokens, y.data(), kRows);
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t r = 0; r < kRows; ++r) {
        double sum = 0;
        double size = 0;
        for (int64_t c = 0; c < kCols; ++c) {
          const int8_t* high = inputs.high(t) + c;
          const double in =
              (128 * high[0] + high[inputs.to_low()]) *
              static_cast<double>(
                  inputs.scales[t * inputs.groups + c / format->group]);
          sum += w.values[r * kCols + c] * in;
          size += std::abs(w.values[r * kCols + c] * in);
        }
        EXPECT_NEAR(y[t * kRows + r], sum, 1e-6 * size) << format->name;
      }
    }
  }
}

// Fails where MOBE_INT_KERNELS asks for one that is not there.
TEST(DotTest, OneOfTheSetsIsInUse) {
  EXPECT_GT(std::ranges::count(SupportedDots(), std::string(Dots().name),
                               &DotKernels::name),
            0);
}

// Of every set, any rows and tokens: the bits of the specification.
TEST(DotTest, EverySetGivesTheSameBits) {
  const DotKernels& scalar = SupportedDots().back();
  for (const FormatRow* format : PackedFormats()) {
    for (const int64_t rows : {1, 16, 30, 130}) {
      for (const int64_t cols : {1, 4, 33, 64, 96, 256, 300}) {
        const Packed w(*format, rows, cols);
        constexpr int64_t kMost = 37;
        const Floats x = Random(kMost * cols);
        const RoundedInputs inputs = Rounded(*format, x, cols, kMost);
        for (const int64_t tokens : {1, 2, 6, 15, 16, 37}) {
          for (const int64_t row :
               {int64_t{0}, std::min<int64_t>(rows - 1, 3)}) {
            const WeightView view = w.view.Rows(row, rows - row);
            const int64_t first = kMost - tokens;
            Floats expected(tokens * view.rows, 0);
            scalar.multiply(view, inputs, first, tokens, expected.data(),
                            view.rows);
            for (const DotKernels& dots : SupportedDots()) {
              Floats y(tokens * view.rows, 0);
              dots.multiply(view, inputs, first, tokens, y.data(), view.rows);
              ASSERT_TRUE(y == expected)
                  << dots.name << " " << format->name << " " << rows << "x"
                  << cols << "x" << tokens << " from " << row;
            }
          }
        }
      }
    }
  }
}

TEST(DotTest, ZerosAndWhatIsNotFinite) {
  for (const DotKernels& dots : SupportedDots()) {
    const FormatRow& format = RowOf(NumberFormat::kInt8);
    const Packed w(format, 16, 80);
    Floats x(2 * 80, 0);
    std::memset(x.data(), 0, sizeof(float) * 160);
    x[80 + 7] = std::numeric_limits<float>::infinity();
    const RoundedInputs inputs = Rounded(format, x, 80, 2);
    Floats y(2 * 16, 0);
    dots.multiply(w.view, inputs, 0, 2, y.data(), 16);
    for (int64_t r = 0; r < 16; ++r) {
      EXPECT_EQ(y[r], 0) << dots.name;
      EXPECT_TRUE(std::isnan(y[16 + r])) << dots.name;
    }
  }
}

// Inputs, too: every set of kernels rounds to the same bits.
TEST(DotTest, EverySetRoundsInputsAlike) {
  for (const int64_t count : {1, 7, 32, 64}) {
    Floats x = Random(count);
    if (count > 7) x[3] = 0.5f * x[2];
    for (const float scale : {1.0f, 1e-30f, 1e30f}) {
      Floats scaled(count, 0);
      for (int64_t i = 0; i < count; ++i) scaled[i] = x[i] * scale;
      Array<int8_t> expected(count, 0);
      const RoundedRow row = SupportedKernels().back().to_int8(
          scaled.data(), count, expected.data());
      for (int64_t i = 0; i < count; ++i) {
        EXPECT_NEAR(expected[i], scaled[i] / row.scale, 0.5001);
      }
      for (const KernelSet& set : SupportedKernels()) {
        Array<int8_t> codes(count, 0);
        const RoundedRow found =
            set.to_int8(scaled.data(), count, codes.data());
        EXPECT_EQ(found.sum, row.sum) << set.name;
        EXPECT_EQ(found.scale, row.scale) << set.name;
        EXPECT_TRUE(codes == expected) << set.name;
      }
      Array<int8_t> high(count, 0), low(count, 0);
      const RoundedRow fine = SupportedKernels().back().to_int15(
          scaled.data(), count, high.data(), low.data());
      for (int64_t i = 0; i < count; ++i) {
        EXPECT_NEAR(128 * high[i] + low[i], scaled[i] / fine.scale, 0.51);
      }
      for (const KernelSet& set : SupportedKernels()) {
        Array<int8_t> high_too(count, 0), low_too(count, 0);
        const RoundedRow found =
            set.to_int15(scaled.data(), count, high_too.data(), low_too.data());
        EXPECT_EQ(found.sum, fine.sum) << set.name;
        EXPECT_EQ(found.scale, fine.scale) << set.name;
        EXPECT_TRUE(high_too == high && low_too == low) << set.name;
      }
    }
  }
}

}  // namespace
}  // namespace mobe
