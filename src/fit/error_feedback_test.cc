#include "fit/error_feedback.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "base/parallel.h"
#include "fit/diagonal.h"
#include "fit/testing.h"
#include "kernels/gemm.h"
#include "tensor/packed.h"

namespace mobe::error_feedback_test {
namespace {

// A moment of inputs of which neighbours are alike, as a model's are.
Buffer<float> SomeMoment(int64_t cols) {
  Buffer<float> moment(cols * cols);
  for (int64_t i = 0; i < cols; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      const auto apart = static_cast<float>(std::abs(i - j));
      moment[i * cols + j] = std::pow(0.9f, apart) *
                             (1 + 0.1f * static_cast<float>(i % 7)) *
                             (1 + 0.1f * static_cast<float>(j % 7));
    }
  }
  return moment;
}

Buffer<float> SomeMatrix(int64_t rows, int64_t cols) {
  Buffer<float> w(rows * cols);
  for (int64_t i = 0; i < w.size(); ++i) {
    w[i] = static_cast<float>(std::sin(static_cast<double>(i * i % 1009)));
  }
  return w;
}

// sum over rows of (q - w) S (q - w)^T.
double Loss(const Buffer<float>& w, const float* q, const Buffer<float>& moment,
            int64_t rows, int64_t cols) {
  double loss = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < cols; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        loss += double{q[r * cols + i] - w[r * cols + i]} *
                moment[i * cols + j] *
                double{q[r * cols + j] - w[r * cols + j]};
      }
    }
  }
  return loss;
}

RoundedMatrix Rounded(const FormatRow& format, const Buffer<float>& w,
                      int64_t rows, int64_t cols, const Buffer<float>& moment) {
  RoundingNorm norm;
  norm.moment.CopyFrom(moment);
  FactorMoment(cols, &norm);
  RoundedMatrix rounded;
  RoundWithFeedback(format, w.data(), rows, cols, norm, &rounded);
  return rounded;
}

// What the header says of the loss: a sum over columns of squares.
TEST(ErrorFeedbackTest, FactorsTheLoss) {
  constexpr int64_t kCols = 20;
  const Buffer<float> moment = SomeMoment(kCols);
  RoundingNorm norm;
  norm.moment.CopyFrom(moment);
  FactorMoment(kCols, &norm);
  Buffer<float> off = SomeMatrix(1, kCols);
  Buffer<float> none(kCols);
  std::fill(none.begin(), none.end(), 0.0f);
  double sum = 0;
  for (int64_t j = 0; j < kCols; ++j) {
    double t = off[j];
    for (int64_t k = j + 1; k < kCols; ++k) {
      t += off[k] * norm.factor[j * kCols + k];
    }
    sum += norm.weights[j] * norm.weights[j] * t * t;
  }
  const double want = Loss(none, off.data(), moment, 1, kCols);
  EXPECT_NEAR(sum, want, 1e-4 * want);
}

// Against rounding each number by itself, of widths that end within a group,
// within a block, and behind one.
TEST(ErrorFeedbackTest, ProductsLoseLess) {
  constexpr int64_t kRows = 37;
  for (const FormatRow& format : Formats()) {
    if (!format.packed()) continue;
    for (const int64_t cols : {40, 64, 150}) {
      SCOPED_TRACE(std::string(format.name) + " " + std::to_string(cols));
      const Buffer<float> w = SomeMatrix(kRows, cols);
      const Buffer<float> moment = SomeMoment(cols);
      Buffer<float> identity;
      SetToIdentity(cols, &identity);
      const RoundedMatrix fed = Rounded(format, w, kRows, cols, moment);
      const RoundedMatrix alone = Rounded(format, w, kRows, cols, identity);
      EXPECT_LT(Loss(w, fed.values.data(), moment, kRows, cols),
                0.6 * Loss(w, alone.values.data(), moment, kRows, cols));
      EXPECT_GT(Loss(w, fed.values.data(), identity, kRows, cols),
                Loss(w, alone.values.data(), identity, kRows, cols));
    }
  }
}

// The values are those that the planes hold.
TEST(ErrorFeedbackTest, ValuesAreThoseOfThePlanes) {
  constexpr int64_t kRows = 19;
  constexpr int64_t kCols = 101;
  for (const FormatRow& format : Formats()) {
    if (!format.packed()) continue;
    const Buffer<float> w = SomeMatrix(kRows, kCols);
    const RoundedMatrix rounded =
        Rounded(format, w, kRows, kCols, SomeMoment(kCols));
    Buffer<float> decoded(kRows * kCols);
    DecodePacked({format.format, rounded.codes.data(), kRows, kCols,
                  rounded.scales.data()},
                 0, kCols, decoded.data());
    for (int64_t i = 0; i < decoded.size(); ++i) {
      ASSERT_NEAR(decoded[i], rounded.values[i], 1e-5) << format.name << i;
    }
  }
}

TEST(ErrorFeedbackTest, IsTheSameForAnyNumberOfThreads) {
  const FormatRow& format = RowOf(NumberFormat::kInt3);
  const Buffer<float> w = SomeMatrix(200, 96);
  SetThreads(1);
  const RoundedMatrix one = Rounded(format, w, 200, 96, SomeMoment(96));
  SetThreads(3);
  const RoundedMatrix three = Rounded(format, w, 200, 96, SomeMoment(96));
  SetThreads(0);
  EXPECT_TRUE(std::ranges::equal(one.codes, three.codes));
  EXPECT_TRUE(std::ranges::equal(one.scales, three.scales));
}

// A moment of fewer tokens than inputs is singular, and one of none is zero
// beside what is added to it.
TEST(ErrorFeedbackTest, TakesSingularMoments) {
  constexpr int64_t kCols = 40;
  Buffer<float> moment(kCols * kCols);
  std::fill(moment.begin(), moment.end(), 1.0f);
  const Buffer<float> w = SomeMatrix(5, kCols);
  const RoundedMatrix rounded =
      Rounded(RowOf(NumberFormat::kInt4), w, 5, kCols, moment);
  for (const float value : rounded.values) ASSERT_TRUE(std::isfinite(value));
}

TEST(ErrorFeedbackTest, OfADTypeLosesLessThanTheNearest) {
  constexpr int64_t kRows = 5;
  constexpr int64_t kSize = 24;
  std::mt19937_64 random(3);
  Buffer<float> root(kSize * kSize);
  Fill(&random, 1, &root);
  // Columns that are alike: what one loses another can make up for.
  for (int64_t i = 0; i < kSize * kSize; i += kSize) root[i] += 20;
  RoundingNorm norm;
  norm.moment.Resize(kSize * kSize);
  Gemm(Trans::kNo, Trans::kYes, kSize, kSize, kSize, root.data(), kSize,
       root.data(), kSize, 0.0f, norm.moment.data(), kSize);
  FactorMoment(kSize, &norm);
  Buffer<float> w(kRows * kSize);
  Fill(&random, 1, &w);
  Buffer<float> nearest;
  nearest.CopyFrom(w);
  RoundTo(DType::kBF16, &nearest);
  Buffer<float> fed;
  fed.CopyFrom(w);
  RoundWithFeedback(DType::kBF16, kRows, kSize, norm, fed.data());
  const auto loss = [&](const Buffer<float>& rounded) {
    return Loss(w, rounded.data(), norm.moment, kRows, kSize);
  };
  EXPECT_LT(loss(fed), 0.3 * loss(nearest));
  Buffer<float> again;
  again.CopyFrom(fed);
  RoundTo(DType::kBF16, &again);
  for (int64_t i = 0; i < fed.size(); ++i) EXPECT_EQ(again[i], fed[i]);
}

TEST(ErrorFeedbackTest, ReadsNothing) {
  RoundingNorm norm;
  norm.moment.Resize(4);
  std::fill(norm.moment.begin(), norm.moment.end(), 0.0f);
  FactorMoment(2, &norm);
  float w[] = {1.001f, -3.007f};
  RoundWithFeedback(DType::kBF16, 1, 2, norm, w);
  EXPECT_EQ(w[0], 1.0f);  // each the nearest
  EXPECT_EQ(w[1], -3.0f);
}

}  // namespace
}  // namespace mobe::error_feedback_test
