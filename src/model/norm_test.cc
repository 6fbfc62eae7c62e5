#include "model/norm.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mobe {
namespace {

TEST(RmsNormTest, DividesByTheRootOfTheMeanSquare) {
  // 19 columns: no multiple of any vector's length.
  std::vector<float> weight(19), x(38), y(38);
  for (size_t i = 0; i < weight.size(); ++i) {
    weight[i] = 1 + 0.1f * static_cast<float>(i);
  }
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  RmsNorm(weight, 1e-3f, x.data(), 2, y.data());
  for (size_t row = 0; row < 2; ++row) {
    double squares = 0;
    for (size_t j = 0; j < 19; ++j) squares += std::pow(x[row * 19 + j], 2);
    for (size_t j = 0; j < 19; ++j) {
      EXPECT_NEAR(y[row * 19 + j],
                  x[row * 19 + j] / std::sqrt(squares / 19 + 1e-3) * weight[j],
                  1e-5);
    }
  }
}

}  // namespace
}  // namespace mobe
