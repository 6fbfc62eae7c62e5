// The softmax of attention.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace mobe {

// Softmax of the first `seen` of `count` scores; the later ones, which lie in
// the token's future, get no weight.
inline void CausalSoftmax(float* scores, int64_t seen, int64_t count) {
  const float max = *std::max_element(scores, scores + seen);
  float sum = 0;
  for (int64_t j = 0; j < seen; ++j) {
    scores[j] = std::exp(scores[j] - max);
    sum += scores[j];
  }
  const float scale = 1.0f / sum;
  for (int64_t j = 0; j < seen; ++j) scores[j] *= scale;
  std::fill(scores + seen, scores + count, 0.0f);
}

}  // namespace mobe
