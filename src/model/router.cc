#include "model/router.h"

#include <algorithm>
#include <cmath>

#include "base/parallel.h"

namespace mobe {
namespace {

void Softmax(float* x, int64_t count) {
  const float max = *std::max_element(x, x + count);
  float sum = 0;
  for (int64_t j = 0; j < count; ++j) {
    x[j] = std::exp(x[j] - max);
    sum += x[j];
  }
  for (int64_t j = 0; j < count; ++j) x[j] /= sum;
}

// Every comparison with NaN is false, so a NaN may stay where it is, but an
// index is always one of the experts not picked yet.
void PickLargest(const float* values, int64_t count, int64_t picks,
                 int32_t* picked) {
  for (int64_t n = 0; n < picks; ++n) {
    int32_t best = -1;
    for (int32_t j = 0; j < count; ++j) {
      if (std::find(picked, picked + n, j) != picked + n) continue;
      if (best < 0 || values[j] > values[best]) best = j;
    }
    picked[n] = best;
  }
  std::sort(picked, picked + picks);
}

}  // namespace

void Route(float* logits, int64_t tokens, int64_t experts, int64_t picks,
           bool normalise, Routing* routing) {
  routing->tokens = tokens;
  routing->picks_per_token = picks;
  routing->experts.resize(static_cast<size_t>(tokens * picks));
  routing->weights.resize(static_cast<size_t>(tokens * picks));
  constexpr int64_t kGrain = 8;  // tokens
  const auto route = [&](int64_t t) {
    float* values = logits + t * experts;
    int32_t* picked = routing->experts.data() + t * picks;
    float* weights = routing->weights.data() + t * picks;
    Softmax(values, experts);
    PickLargest(values, experts, picks, picked);
    float sum = 0;
    for (int64_t n = 0; n < picks; ++n) {
      weights[n] = values[picked[n]];
      sum += weights[n];
    }
    if (!normalise) return;
    for (int64_t n = 0; n < picks; ++n) weights[n] /= sum;
  };
  ParallelRanges(tokens, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) route(t);
  });
}

}  // namespace mobe
