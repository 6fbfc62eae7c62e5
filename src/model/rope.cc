#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mobe {
namespace {

// The pair, as a real number, that makes so many turns in the original context.
double PairOfTurns(const Rope& rope, double turns) {
  const double length = static_cast<double>(rope.original_positions);
  return static_cast<double>(rope.dim) *
         std::log(length / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(rope.theta));
}

void Interpolate(const Rope& rope, std::vector<float>* frequencies) {
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

}  // namespace

RopeTable::RopeTable(const Rope& rope)
    : interleaved_(rope.interleaved), amplitude_(rope.amplitude) {
  for (int64_t i = 0; i < rope.dim; i += 2) {
    const double exponent =
        static_cast<double>(i) / static_cast<double>(rope.dim);
    frequencies_.push_back(
        static_cast<float>(1.0 / std::pow(rope.theta, exponent)));
  }
  if (rope.factor != 1) Interpolate(rope, &frequencies_);
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
  const size_t pairs = frequencies_.size();
  const float* cosines = cosines_.data() + static_cast<size_t>(row) * pairs;
  const float* sines = sines_.data() + static_cast<size_t>(row) * pairs;
  const size_t step = interleaved_ ? 2 : 1;
  const size_t apart = interleaved_ ? 1 : pairs;
  for (size_t i = 0; i < pairs; ++i) {
    float& first = x[i * step];
    float& second = x[i * step + apart];
    const float a = first;
    const float b = second;
    first = a * cosines[i] - b * sines[i];
    second = b * cosines[i] + a * sines[i];
  }
}

}  // namespace mobe
