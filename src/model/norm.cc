#include "model/norm.h"

#include <cmath>

namespace mobe {
namespace {

// Lanes that the compiler can keep in one register; their fixed order makes
// the sum the same for every instruction set.
float SumOfSquares(const float* x, int64_t count) {
  constexpr int64_t kLanes = 16;
  float lanes[kLanes] = {};
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += x[j + l] * x[j + l];
  }
  for (; j < count; ++j) lanes[j % kLanes] += x[j] * x[j];
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

}  // namespace

void RmsNorm(std::span<const float> weight, float eps, const float* x,
             int64_t rows, float* y) {
  const auto cols = static_cast<int64_t>(weight.size());
  for (int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
    const float mean = SumOfSquares(x, cols) / static_cast<float>(cols);
    const float scale = 1.0f / std::sqrt(mean + eps);
    for (int64_t j = 0; j < cols; ++j) {
      y[j] = x[j] * scale * weight[static_cast<size_t>(j)];
    }
  }
}

}  // namespace mobe
