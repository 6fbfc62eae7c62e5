// Statistics of what a model predicts. All of it is computed in double from
// float32 logits, in the order given.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mobe {

// The softmax of a row of logits: p_i = exp(logits[i] - log_sum).
struct Softmax {
  double log_sum = 0;  // log(sum_i exp(logits[i])); not finite if a logit isn't
  int64_t top = 0;     // index of the largest logit, the lowest of equal ones
};

// `logits` must not be empty.
Softmax SoftmaxOf(std::span<const float> logits);

// KL(base || other) = sum_i p_i (log p_i - log q_i) in nats, p of base and q of
// other; 0 or above, and exactly 0 for equal logits. Rows of equal length with
// their SoftmaxOf.
double KlDivergence(std::span<const float> base, const Softmax& base_softmax,
                    std::span<const float> other, const Softmax& other_softmax);

// An estimate with its standard error, which is NaN for one value: it can't be
// known.
struct Estimate {
  double value = 0;
  double error = 0;
};

// "1.2345 +- 0.0012", in so many digits, both with their unit; the value alone
// where its error is not known.
std::string ToText(const Estimate& estimate, int digits, const char* unit = "");

// The mean of independent values: error sqrt(s^2 / n) with the sample variance
// s^2 = sum (x - mean)^2 / (n - 1). `values` must not be empty.
Estimate Mean(std::span<const double> values);

// exp of an estimate, its error carried over to first order.
Estimate ExpOf(const Estimate& estimate);

// A share of n values: error sqrt(p (1 - p) / (n - 1)).
Estimate Proportion(int64_t count, int64_t n);

// What a number is made of that depends on many items only through sums over
// them: of each item the terms, as many of each.
using Sums = std::vector<double>;
// The number, of the sums.
using OfSums = double (*)(const Sums& sums);
double MeanOfSums(const Sums& sums);     // [0] / [1]: values, items
double ExpMeanOfSums(const Sums& sums);  // exp of that

// The number, with its standard error by the jackknife (Tukey 1958): from what
// it would be without each of the items. For means that is the error of Mean.
// `items` must not be empty.
Estimate EstimateOf(std::span<const Sums> items, OfSums number);

// The number of `items` less that of `base`: the same items in another way, so
// the error is that of pairs. As many of both.
Estimate DifferenceOf(std::span<const Sums> items, std::span<const Sums> base,
                      OfSums number);

// The value below which `fraction` in [0, 1] of the ascending values lie,
// interpolated linearly between the two next to position fraction * (n - 1).
double Percentile(std::span<const double> ascending, double fraction);

}  // namespace mobe
