#include "kernels/token_lanes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "base/matrix.h"
#include "kernels/testing.h"

namespace mobe::token_lanes_test {
namespace {

struct Shape {
  int64_t rows, inputs, tokens;
};

class TokenLanesTest : public testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    if (!HasTokenLanes()) GTEST_SKIP() << "this CPU lacks AVX-512 BF16";
  }
};

// Tiles of 8 and 16 rows, and blocks of one and two, each whole and in part;
// pairs of inputs that are whole, and not.
INSTANTIATE_TEST_SUITE_P(Shapes, TokenLanesTest,
                         testing::Values(Shape{1, 1, 1}, Shape{16, 32, 16},
                                         Shape{64, 96, 32}, Shape{5, 31, 3},
                                         Shape{17, 33, 17}, Shape{64, 257, 40},
                                         Shape{9, 768, 63},
                                         Shape{23, 100, 100}));

std::vector<BFloat16> Weights(int64_t count) {
  std::vector<BFloat16> weights;
  for (const float value : NormalFloats(count, 2)) {
    weights.push_back(ToBFloat16(value));
  }
  return weights;
}

// y [tokens, rows + 3], whose last three columns stay.
std::vector<float> Multiply(const std::vector<BFloat16>& w, const float* x,
                            const Shape& n) {
  TokenLanes lanes{n.tokens, n.inputs};
  Buffer<BFloat16> packed(lanes.size());
  lanes.values = packed.data();
  for (int64_t b = 0; b < lanes.blocks(); ++b) lanes.Pack(x, b);
  std::vector<float> y(static_cast<size_t>(n.tokens * (n.rows + 3)), -1);
  MultiplyTokenLanes(w.data(), n.rows, lanes, y.data(), n.rows + 3);
  return y;
}

// Each pair is off by its roundings, and each sum by one for every pair.
TEST_P(TokenLanesTest, IsTheProduct) {
  const Shape& n = GetParam();
  const std::vector<float> x = NormalFloats(n.tokens * n.inputs, 1);
  const std::vector<BFloat16> w = Weights(n.rows * n.inputs);
  const std::vector<float> y = Multiply(w, x.data(), n);
  for (int64_t t = 0; t < n.tokens; ++t) {
    for (int64_t r = 0; r < n.rows; ++r) {
      double sum = 0, size = 0;
      for (int64_t c = 0; c < n.inputs; ++c) {
        const double product =
            static_cast<double>(ToFloat(w[r * n.inputs + c])) *
            ToFloat(ToBFloat16(x[t * n.inputs + c]));
        sum += product;
        size += std::abs(product);
      }
      ASSERT_NEAR(y[t * (n.rows + 3) + r], sum,
                  static_cast<double>(n.inputs + 2) * FLT_EPSILON * size)
          << "token " << t << ", row " << r;
    }
    for (int64_t r = n.rows; r < n.rows + 3; ++r) {
      EXPECT_EQ(y[t * (n.rows + 3) + r], -1);
    }
  }
}

TEST_P(TokenLanesTest, TokensDoNotChangeEachOther) {
  const Shape& n = GetParam();
  const std::vector<float> x = NormalFloats(n.tokens * n.inputs, 1);
  const std::vector<BFloat16> w = Weights(n.rows * n.inputs);
  const std::vector<float> all = Multiply(w, x.data(), n);
  for (int64_t t = 0; t < n.tokens; t += 7) {
    const std::vector<float> alone =
        Multiply(w, x.data() + t * n.inputs, {n.rows, n.inputs, 1});
    EXPECT_TRUE(
        std::equal(alone.begin(), alone.end(), all.data() + t * (n.rows + 3)));
  }
}

}  // namespace
}  // namespace mobe::token_lanes_test
