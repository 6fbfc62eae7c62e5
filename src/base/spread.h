// Mean and deviation of values that are not in memory together.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

namespace mobe {

// Of some values; in parts that are then added, in an order that the caller
// fixes (Chan, Golub, LeVeque 1979: no cancellation, unlike sums of squares).
struct Spread {
  double count = 0;
  double mean = 0;
  double squares = 0;  // of the deviations from the mean

  void Add(const Spread& other) {
    if (other.count == 0) return;
    const double all = count + other.count;
    const double apart = other.mean - mean;
    mean += apart * other.count / all;
    squares += other.squares + apart * apart * count * other.count / all;
    count = all;
  }
  // Of the sample; 0 for fewer than two values.
  double Deviation() const {
    return count < 2 ? 0 : std::sqrt(squares / (count - 1));
  }
};

inline Spread SpreadOf(std::span<const float> values) {
  Spread spread;
  spread.count = static_cast<double>(values.size());
  if (values.empty()) return spread;
  for (const float value : values) spread.mean += value;
  spread.mean /= spread.count;
  for (const float value : values) {
    const double apart = value - spread.mean;
    spread.squares += apart * apart;
  }
  return spread;
}

}  // namespace mobe
