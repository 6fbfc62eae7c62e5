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
    if (SupportedLanes().size() == 1) {
      GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AMX";
    }
  }
};

// Those that multiply.
std::vector<LaneKernels> Sets() {
  std::vector<LaneKernels> sets = SupportedLanes();
  sets.pop_back();
  return sets;
}

// Tiles of 8, 16 and 32 rows, and blocks of one and two, each whole and in
// part; pairs and steps of inputs that are whole, and not.
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
std::vector<float> Multiply(const LaneKernels& set,
                            const std::vector<BFloat16>& w, const float* x,
                            const Shape& n) {
  TokenLanes lanes{n.tokens, n.inputs};
  Buffer<BFloat16> packed(lanes.size());
  lanes.values = packed.data();
  for (int64_t b = 0; b < lanes.blocks(); ++b) lanes.Pack(x, b);
  std::vector<float> y(static_cast<size_t>(n.tokens * (n.rows + 3)), -1);
  set.multiply(w.data(), n.rows, lanes, y.data(), n.rows + 3);
  return y;
}

// Each pair is off by its roundings, and each sum by one for every pair.
TEST_P(TokenLanesTest, IsTheProduct) {
  const Shape& n = GetParam();
  const std::vector<float> x = NormalFloats(n.tokens * n.inputs, 1);
  const std::vector<BFloat16> w = Weights(n.rows * n.inputs);
  for (const LaneKernels& set : Sets()) {
    SCOPED_TRACE(set.name);
    const std::vector<float> y = Multiply(set, w, x.data(), n);
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
}

TEST_P(TokenLanesTest, TokensDoNotChangeEachOther) {
  const Shape& n = GetParam();
  const std::vector<float> x = NormalFloats(n.tokens * n.inputs, 1);
  const std::vector<BFloat16> w = Weights(n.rows * n.inputs);
  for (const LaneKernels& set : Sets()) {
    SCOPED_TRACE(set.name);
    const std::vector<float> all = Multiply(set, w, x.data(), n);
    for (int64_t t = 0; t < n.tokens; t += 7) {
      for (const int64_t count : {1, 3, 8, 9, 15, 30}) {
        if (t + count > n.tokens) break;
        const std::vector<float> some = Multiply(
            set, w, x.data() + t * n.inputs, {n.rows, n.inputs, count});
        EXPECT_TRUE(
            std::equal(some.begin(), some.end(), all.data() + t * (n.rows + 3)))
            << count << " from " << t << " on";
      }
    }
  }
}

// Weights after the last, which may be another tensor's, have no say.
TEST_P(TokenLanesTest, ReadsTheMatrixAlone) {
  const Shape& n = GetParam();
  const std::vector<float> x = NormalFloats(n.tokens * n.inputs, 1);
  const std::vector<BFloat16> w = Weights(n.rows * n.inputs);
  std::vector<BFloat16> more = w;
  more.resize(w.size() + 4096, ToBFloat16(NAN));
  for (const LaneKernels& set : Sets()) {
    SCOPED_TRACE(set.name);
    EXPECT_EQ(Multiply(set, more, x.data(), n), Multiply(set, w, x.data(), n));
  }
}

}  // namespace
}  // namespace mobe::token_lanes_test
