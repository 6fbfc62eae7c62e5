// What numbers lose when they are stored in fewer bits, in squares, so that
// losses of pieces add up.
#pragma once

#include <cmath>
#include <cstdint>

namespace mobe {

struct Loss {
  double error = 0;   // of the differences
  double square = 0;  // of what was there

  // Of `count` numbers, which were rounded to `stored`.
  void Add(const float* given, const float* stored, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const double value = given[i];
      error += (value - stored[i]) * (value - stored[i]);
      square += value * value;
    }
  }
  void Add(const Loss& other) {
    error += other.error;
    square += other.square;
  }
  // The Frobenius norm of the difference over that of what was there.
  double relative() const {
    if (square > 0) return std::sqrt(error / square);
    return error > 0 ? HUGE_VAL : 0;
  }
};

}  // namespace mobe
