#include "eval/statistics.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace mobe {
namespace {

Sums SumOf(std::span<const Sums> items) {
  Sums sum(items.front().size());
  for (const Sums& item : items) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += item[i];
  }
  return sum;
}

Sums Without(Sums sum, const Sums& item) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] -= item[i];
  return sum;
}

Estimate Jackknife(double value, size_t n,
                   const std::function<double(size_t)>& without) {
  std::vector<double> values;
  for (size_t i = 0; i < n; ++i) values.push_back(without(i));
  const auto count = static_cast<double>(n);
  return {value, (count - 1) * Mean(values).error};
}

}  // namespace

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

std::string ToText(const Estimate& estimate, int digits, const char* unit) {
  std::string text = fmt::format("{:.{}f}{}", estimate.value, digits, unit);
  if (!std::isnan(estimate.error)) {
    text += fmt::format(" +- {:.{}f}{}", estimate.error, digits, unit);
  }
  return text;
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

double MeanOfSums(const Sums& sums) { return sums[0] / sums[1]; }

double ExpMeanOfSums(const Sums& sums) { return std::exp(MeanOfSums(sums)); }

Estimate EstimateOf(std::span<const Sums> items, OfSums number) {
  const Sums sum = SumOf(items);
  return Jackknife(number(sum), items.size(),
                   [&](size_t i) { return number(Without(sum, items[i])); });
}

Estimate DifferenceOf(std::span<const Sums> items, std::span<const Sums> base,
                      OfSums number) {
  const Sums sum = SumOf(items);
  const Sums base_sum = SumOf(base);
  return Jackknife(number(sum) - number(base_sum), items.size(), [&](size_t i) {
    return number(Without(sum, items[i])) - number(Without(base_sum, base[i]));
  });
}

double Percentile(std::span<const double> ascending, double fraction) {
  const double position = fraction * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, ascending.size() - 1);
  return std::lerp(ascending[below], ascending[above],
                   position - static_cast<double>(below));
}

}  // namespace mobe
