// What the start of the fast solver (spaces.cc) is on every device.
#pragma once

#include <cstdint>
#include <random>

#include "base/matrix.h"

namespace mobe::internal {

// Added to the diagonal of the normal equations, relative to its sum, so that
// they stay definite in float32. It makes rows of directions that are weak in
// the group come out short; after some rounds all have nearly the same length.
inline constexpr double kStartRidge = 1e-5;
inline constexpr int kStartRounds = 4;
inline constexpr float kLongEnough = 0.8f;  // of the square of a row's length

// Signs at random for the sketch of a group: as good as normal numbers, a bit
// each, and the same with every standard library.
inline void FillWithSigns(uint64_t seed, int64_t group, float magnitude,
                          Buffer<float>* values) {
  constexpr int64_t kBits = 64;
  std::mt19937_64 random(seed * 1'000'003 + static_cast<uint64_t>(group));
  uint64_t bits = 0;
  for (int64_t i = 0; i < values->size(); ++i) {
    if (i % kBits == 0) bits = random();
    (*values)[i] = (bits & 1) != 0 ? magnitude : -magnitude;
    bits >>= 1;
  }
}

}  // namespace mobe::internal
