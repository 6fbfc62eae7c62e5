#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/kernels.h"

namespace mobe {
namespace {

// The pair, as a real number, that makes so many turns in the original context.
double PairOfTurns(const Rope& rope, double turns) {
  const double length = static_cast<double>(rope.original_positions);
  return static_cast<double>(rope.dim) *
         std::log(length / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(rope.theta));
}

void InterpolateByPairs(const Rope& rope, std::vector<float>* frequencies) {
  const double last = static_cast<double>(rope.dim - 1);
  const double low =
      std::max(std::floor(PairOfTurns(rope, rope.beta_fast)), 0.0);
  double high = std::min(std::ceil(PairOfTurns(rope, rope.beta_slow)), last);
  if (low == high) high += 0.001;  // as in the paper's code
  for (size_t i = 0; i < frequencies->size(); ++i) {
    const auto place =
        static_cast<float>((static_cast<double>(i) - low) / (high - low));
    const float slow = std::clamp(place, 0.0f, 1.0f);
    float& frequency = (*frequencies)[i];
    frequency = frequency / static_cast<float>(rope.factor) * slow +
                frequency * (1 - slow);
  }
}

// Llama 3's ramp is linear in the turns, where yarn's is in the pairs.
void InterpolateByTurns(const Rope& rope, std::vector<float>* frequencies) {
  for (float& frequency : *frequencies) {
    const double turns = static_cast<double>(rope.original_positions) *
                         frequency / (2 * std::numbers::pi);
    const double fast = std::clamp(
        (turns - rope.beta_slow) / (rope.beta_fast - rope.beta_slow), 0.0, 1.0);
    frequency = static_cast<float>(frequency * fast +
                                   frequency / rope.factor * (1 - fast));
  }
}

void Slow(const Rope& rope, std::vector<float>* frequencies) {
  for (float& frequency : *frequencies) {
    frequency /= static_cast<float>(rope.factor);
  }
}

void SlowEach(const Rope& rope, std::vector<float>* frequencies) {
  for (size_t i = 0; i < frequencies->size(); ++i) {
    (*frequencies)[i] /= static_cast<float>(rope.pair_factors[i]);
  }
}

}  // namespace

RopeTable::RopeTable(const Rope& rope)
    : interleaved_(rope.interleaved), amplitude_(rope.amplitude) {
  for (int64_t i = 0; i < rope.dim; i += 2) {
    const double exponent =
        static_cast<double>(i) / static_cast<double>(rope.dim);
    frequencies_.push_back(
        static_cast<float>(1.0 / std::pow(rope.theta, exponent)));
  }
  switch (rope.type) {
    case RopeType::kDefault:
      break;
    case RopeType::kLinear:
      Slow(rope, &frequencies_);
      break;
    case RopeType::kLlama3:
      InterpolateByTurns(rope, &frequencies_);
      break;
    case RopeType::kLongRope:
      SlowEach(rope, &frequencies_);
      break;
    case RopeType::kYarn:
      if (rope.factor != 1) InterpolateByPairs(rope, &frequencies_);
      break;
  }
}

void RopeTable::Prepare(std::span<const int64_t> positions) {
  cosines_.clear();
  sines_.clear();
  for (const int64_t position : positions) {
    for (const float frequency : frequencies_) {
      const float angle = static_cast<float>(position) * frequency;
      cosines_.push_back(std::cos(angle) * amplitude_);
      sines_.push_back(std::sin(angle) * amplitude_);
    }
  }
}

void RopeTable::Rotate(int64_t row, float* x) const {
  const auto pairs = static_cast<int64_t>(frequencies_.size());
  const float* cosines = cosines_.data() + row * pairs;
  const float* sines = sines_.data() + row * pairs;
  if (!interleaved_) {
    Kernels().rotate(cosines, sines, pairs, x, x + pairs);
    return;
  }
  for (int64_t i = 0; i < pairs; ++i) {
    const float a = x[2 * i];
    const float b = x[2 * i + 1];
    x[2 * i] = a * cosines[i] - b * sines[i];
    x[2 * i + 1] = b * cosines[i] + a * sines[i];
  }
}

}  // namespace mobe
