#include "kernels/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/parallel.h"
#include "kernels/testing.h"
#include "kernels/token_lanes.h"

namespace mobe {
namespace {

// A weight in its own memory.
struct Weight {
  Weight(DType dtype, int64_t rows, int64_t cols, uint32_t seed)
      : values(EvenFloats(rows * cols, seed)),
        bytes(values.size() * static_cast<size_t>(DTypeSize(dtype))),
        view{*FormatOf(dtype), bytes.data(), rows, cols} {
    if (dtype == DType::kF8E4M3) {
      Divide(seed);
      return;
    }
    StoreFloats(values.data(), rows * cols, dtype, bytes.data());
    LoadAsFloats(dtype, bytes.data(), rows * cols, values.data());
  }
  // Into blocks of FP8 numbers.
  void Divide(uint32_t seed) {
    constexpr int64_t kBlock = 32;
    const int64_t stride = (view.cols + kBlock - 1) / kBlock;
    scales = EvenFloats((view.rows + kBlock - 1) / kBlock * stride, seed);
    view.scales = scales.data();
    view.block_rows = view.block_cols = kBlock;
    view.scale_stride = stride;
    for (size_t i = 0; i < values.size(); ++i) {
      // Any of those from -1 to 1.
      const auto bits = static_cast<uint8_t>(
          static_cast<uint32_t>((values[i] + 0.5f) * 2 * 0x38) % 0x70);
      const Float8 stored = {
          static_cast<uint8_t>(bits < 0x38 ? bits : 0x80 | (bits - 0x38))};
      std::memcpy(&bytes[i], &stored, 1);
      const auto at = static_cast<int64_t>(i);
      values[i] = ToFloat(stored) *
                  view.RowScales(at / view.cols)[at % view.cols / kBlock];
    }
  }
  std::vector<float> values;  // as stored
  std::vector<std::byte> bytes;
  std::vector<float> scales;
  WeightView view;
};

void ExpectProduct(const Weight& w, const std::vector<float>& x, int64_t tokens,
                   const std::vector<float>& y, double tolerance) {
  const int64_t rows = w.view.rows;
  const int64_t cols = w.view.cols;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < cols; ++c) {
        sum +=
            static_cast<double>(w.values[static_cast<size_t>(r * cols + c)]) *
            x[static_cast<size_t>(t * cols + c)];
      }
      ASSERT_NEAR(y[static_cast<size_t>(t * rows + r)], sum, tolerance)
          << "token " << t << ", row " << r;
    }
  }
}

class LinearTest
    : public testing::TestWithParam<std::tuple<DType, Phase, Precision>> {};

INSTANTIATE_TEST_SUITE_P(
    Forms, LinearTest,
    testing::Combine(testing::Values(DType::kF32, DType::kBF16, DType::kF8E4M3),
                     testing::Values(Phase::kPrefill, Phase::kDecode),
                     testing::Values(Precision::kFloat32,
                                     Precision::kBFloat16)));

TEST_P(LinearTest, ABatchIsEveryProduct) {
  const auto [dtype, phase_of, precision_of] = GetParam();
  const Phase phase = phase_of;
  const Precision precision = precision_of;
  // Sizes on both sides of every bound: tokens of one mat_vec, rows of a task.
  const Weight a(dtype, 130, 70, 1);
  const Weight b(dtype, 5, 70, 2);
  const Weight c(dtype, 64, 33, 3);
  const std::vector<float> shared = EvenFloats(20 * 70, 4);
  const std::vector<float> own = EvenFloats(3 * 33, 5);
  std::vector<float> ya(20 * 130), yb(20 * 5), yc(3 * 64);
  const LinearJob jobs[] = {{a.view, shared.data(), 20, ya.data()},
                            {b.view, shared.data(), 20, yb.data()},
                            {c.view, own.data(), 0, nullptr},
                            {c.view, own.data(), 3, yc.data()}};
  LinearBatch(jobs, {phase, precision});
  const double tolerance = precision == Precision::kFloat32 ? 1e-5 : 2e-2;
  ExpectProduct(a, shared, 20, ya, tolerance);
  ExpectProduct(b, shared, 20, yb, tolerance);
  ExpectProduct(c, own, 3, yc, tolerance);
}

TEST_P(LinearTest, ByTheTranspose) {
  const auto [dtype, phase_of, precision_of] = GetParam();
  const Phase phase = phase_of;
  const Precision precision = precision_of;
  constexpr int64_t kRows = 70;
  constexpr int64_t kCols = 130;
  const Weight w(dtype, kRows, kCols, 1);
  Weight transposed(dtype, kCols, kRows, 2);
  Transpose(w.values.data(), kRows, kCols, transposed.values.data());
  for (const int64_t tokens : {1, 20}) {
    const std::vector<float> x = EvenFloats(tokens * kRows, 3);
    std::vector<float> y(static_cast<size_t>(tokens * kCols));
    // Beside a job that reads the same x, but by the rows.
    const Weight other(dtype, 3, kRows, 4);
    std::vector<float> other_y(static_cast<size_t>(tokens * 3));
    const LinearJob jobs[] = {
        {other.view, x.data(), tokens, other_y.data()},
        {w.view, x.data(), tokens, y.data(), Trans::kYes}};
    LinearBatch(jobs, {phase, precision});
    const double tolerance = precision == Precision::kFloat32 ? 1e-5 : 2e-2;
    ExpectProduct(transposed, x, tokens, y, tolerance);
    ExpectProduct(other, x, tokens, other_y, tolerance);
  }
}

// As the same model would whose weights are stored in bfloat16.
TEST(LinearFloat8Test, IsRoundedToBFloat16) {
  if (!HasLanes()) GTEST_SKIP() << "products are in float32 here";
  constexpr int64_t kRows = 130;
  constexpr int64_t kCols = 70;
  constexpr int64_t kTokens = 20;
  const Weight w(DType::kF8E4M3, kRows, kCols, 1);
  Weight rounded(DType::kBF16, kRows, kCols, 1);
  StoreFloats(w.values.data(), kRows * kCols, DType::kBF16,
              rounded.bytes.data());
  const std::vector<float> x = EvenFloats(kTokens * (kRows + kCols), 2);
  for (const Trans trans : {Trans::kNo, Trans::kYes}) {
    const auto run = [&](const Weight& weight) {
      LinearJob job = {weight.view, x.data(), kTokens, nullptr, trans};
      std::vector<float> y(static_cast<size_t>(kTokens * job.outputs()));
      job.y = y.data();
      LinearBatch({&job, 1}, {Phase::kPrefill, Precision::kBFloat16});
      return y;
    };
    EXPECT_EQ(run(w), run(rounded));
  }
}

// To the bit: by rows and by columns, in sizes for which libraries change their
// way, each token as it is in the largest of them.
TEST_P(LinearTest, TokensDoNotChangeEachOther) {
  const auto [dtype, phase_of, precision_of] = GetParam();
  const Phase phase = phase_of;
  const Precision precision = precision_of;
  constexpr int64_t kMost = 300;
  const struct {
    int64_t inputs, outputs;
  } shapes[] = {{96, 130}, {768, 64}, {2048, 130}, {2048, 5}, {18432, 16}};
  for (const Trans trans : {Trans::kNo, Trans::kYes}) {
    for (const auto& shape : shapes) {
      const int64_t inputs = shape.inputs;
      const int64_t outputs = shape.outputs;
      const bool by_rows = trans == Trans::kNo;
      const Weight w(dtype, by_rows ? outputs : inputs,
                     by_rows ? inputs : outputs, 1);
      const std::vector<float> x = EvenFloats(kMost * inputs, 2);
      const auto run = [&](int64_t first, int64_t tokens) {
        std::vector<float> y(static_cast<size_t>(tokens * outputs));
        const LinearJob job{w.view, x.data() + first * inputs, tokens, y.data(),
                            trans};
        LinearBatch({&job, 1}, {phase, precision});
        return y;
      };
      const std::vector<float> all = run(0, kMost);
      for (const int64_t tokens : {1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 65, 299}) {
        const int64_t first = kMost - tokens;
        const std::vector<float> want(all.begin() + first * outputs, all.end());
        EXPECT_TRUE(run(first, tokens) == want)
            << inputs << " to " << outputs << ", " << tokens << " tokens";
      }
    }
  }
}

// One task, which ParallelFor runs outside of any parallel region, and several.
TEST_P(LinearTest, ThreadsDoNotChangeABit) {
  const auto [dtype, phase_of, precision_of] = GetParam();
  const Phase phase = phase_of;
  const Precision precision = precision_of;
  for (const int64_t rows : {16, 64, 200}) {
    for (const int64_t tokens : {1, 8, 9, 64, 300}) {
      const Weight w(dtype, rows, 2048, 1);
      const std::vector<float> x = EvenFloats(tokens * 2048, 2);
      const auto run = [&](int threads) {
        SetThreads(threads);
        std::vector<float> y(static_cast<size_t>(tokens * rows));
        Linear(w.view, x.data(), tokens, {phase, precision}, y.data());
        return y;
      };
      const std::vector<float> one = run(1);
      EXPECT_EQ(run(2), one) << rows << " rows, " << tokens << " tokens";
      EXPECT_EQ(run(4), one) << rows << " rows, " << tokens << " tokens";
    }
  }
  SetThreads(0);
}

}  // namespace
}  // namespace mobe
