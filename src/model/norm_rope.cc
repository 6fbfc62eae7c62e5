#include "model/norm_rope.h"

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

RopeTable::RopeTable(int64_t head_dim, double theta) {
  for (int64_t i = 0; i < head_dim; i += 2) {
    const double exponent =
        static_cast<double>(i) / static_cast<double>(head_dim);
    frequencies_.push_back(static_cast<float>(1.0 / std::pow(theta, exponent)));
  }
}

void RopeTable::Prepare(int64_t first, int64_t count) {
  cosines_.clear();
  sines_.clear();
  for (int64_t position = first; position < first + count; ++position) {
    for (const float frequency : frequencies_) {
      const float angle = static_cast<float>(position) * frequency;
      cosines_.push_back(std::cos(angle));
      sines_.push_back(std::sin(angle));
    }
  }
}

void RopeTable::Rotate(int64_t row, float* head) const {
  const size_t half = frequencies_.size();
  const float* cosines = cosines_.data() + static_cast<size_t>(row) * half;
  const float* sines = sines_.data() + static_cast<size_t>(row) * half;
  for (size_t i = 0; i < half; ++i) {
    const float a = head[i];
    const float b = head[i + half];
    head[i] = a * cosines[i] - b * sines[i];
    head[i + half] = b * cosines[i] + a * sines[i];
  }
}

}  // namespace mobe
