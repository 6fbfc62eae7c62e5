// What numbers lose when they are stored in fewer bits, in squares, so that
// losses of pieces add up.
#pragma once

#include <cmath>
#include <cstdint>

namespace mobe {

struct Loss {
  double error = 0;   // of the differences
  double square = 0;  // of what was there
  double stored = 0;  // of what is in its place

  // Of `count` numbers, which were rounded to `stored`.
  void Add(const float* given, const float* rounded, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const double before = given[i];
      const double after = rounded[i];
      error += (before - after) * (before - after);
      square += before * before;
      stored += after * after;
    }
  }
  void Add(const Loss& other) {
    error += other.error;
    square += other.square;
    stored += other.stored;
  }
  // The Frobenius norm of the difference over that of what was there.
  double relative() const {
    if (square > 0) return std::sqrt(error / square);
    return error > 0 ? HUGE_VAL : 0;
  }
  // The cosine between both: 0 where they have nothing to do with each other.
  double likeness() const {
    const double product = square * stored;
    if (!(product > 0)) return 0;
    return (square + stored - error) / 2 / std::sqrt(product);
  }
};

}  // namespace mobe
