#include "eval/statistics.h"

#include <algorithm>
#include <cmath>

namespace mobe {

Softmax SoftmaxOf(std::span<const float> logits) {
  const auto top = std::max_element(logits.begin(), logits.end());
  const double largest = *top;
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return {largest + std::log(sum), top - logits.begin()};
}

double KlDivergence(std::span<const float> base, const Softmax& base_softmax,
                    std::span<const float> other,
                    const Softmax& other_softmax) {
  double sum = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    const double log_p = base[i] - base_softmax.log_sum;
    const double log_q = other[i] - other_softmax.log_sum;
    sum += std::exp(log_p) * (log_p - log_q);
  }
  // Rounding may take a tiny divergence below 0. Not std::max: NaN must stay.
  return sum < 0 ? 0 : sum;
}

Estimate Mean(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, std::sqrt(squares / (n - 1) / n)};
}

Estimate ExpOf(const Estimate& estimate) {
  const double value = std::exp(estimate.value);
  return {value, value * estimate.error};
}

Estimate Proportion(int64_t count, int64_t n) {
  const double share = static_cast<double>(count) / static_cast<double>(n);
  return {share, std::sqrt(share * (1 - share) / static_cast<double>(n - 1))};
}

double Percentile(std::span<const double> ascending, double fraction) {
  const double position = fraction * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, ascending.size() - 1);
  return std::lerp(ascending[below], ascending[above],
                   position - static_cast<double>(below));
}

}  // namespace mobe
