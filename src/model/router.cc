#include "model/router.h"

#include <algorithm>
#include <cmath>
#include <limits>

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

// Puts the scores outside the best groups out of reach. `biased`: see Route.
void KeepBestGroups(const RouterRule& rule, int64_t group, bool biased,
                    float* scores) {
  thread_local std::vector<float> goodness;
  thread_local std::vector<int32_t> kept;
  goodness.resize(static_cast<size_t>(rule.groups));
  kept.resize(static_cast<size_t>(rule.kept_groups));
  for (int64_t g = 0; g < rule.groups; ++g) {
    float best = -std::numeric_limits<float>::infinity();
    float second = best;
    for (int64_t j = g * group; j < (g + 1) * group; ++j) {
      second = std::max(second, std::min(best, scores[j]));
      best = std::max(best, scores[j]);
    }
    goodness[static_cast<size_t>(g)] = biased ? best + second : best;
  }
  PickLargest(goodness.data(), rule.groups, rule.kept_groups, kept.data());
  for (int64_t g = 0; g < rule.groups; ++g) {
    if (std::binary_search(kept.begin(), kept.end(), g)) continue;
    std::fill_n(scores + g * group, group,
                -std::numeric_limits<float>::infinity());
  }
}

// The picks of one token, and their weights; see Route.
void RouteToken(const ModelConfig& c, std::span<const float> bias,
                float* scores, int32_t* picked, float* weights) {
  const RouterRule& rule = c.router;
  const int64_t experts = c.num_experts;
  if (rule.scoring == Scoring::kSoftmax) {
    Softmax(scores, experts);
  } else {
    for (int64_t j = 0; j < experts; ++j) {
      scores[j] = 1 / (1 + std::exp(-scores[j]));
    }
  }
  thread_local std::vector<float> choice;
  choice.assign(scores, scores + experts);
  for (size_t j = 0; j < bias.size(); ++j) choice[j] += bias[j];
  if (rule.kept_groups < rule.groups) {
    KeepBestGroups(rule, experts / rule.groups, !bias.empty(), choice.data());
  }
  PickLargest(choice.data(), experts, c.experts_per_token, picked);
  float sum = 0;
  for (int64_t n = 0; n < c.experts_per_token; ++n) {
    weights[n] = scores[picked[n]];
    sum += weights[n];
  }
  for (int64_t n = 0; n < c.experts_per_token; ++n) {
    // The small number, DeepSeek's, is for sigmoids that are all 0.
    if (rule.normalise) weights[n] /= sum + 1e-20f;
    weights[n] *= rule.scale;
  }
}

}  // namespace

void Route(const ModelConfig& c, std::span<const float> bias, float* logits,
           int64_t tokens, Routing* routing) {
  const int64_t picks = c.experts_per_token;
  routing->tokens = tokens;
  routing->picks_per_token = picks;
  routing->experts.resize(static_cast<size_t>(tokens * picks));
  routing->weights.resize(static_cast<size_t>(tokens * picks));
  constexpr int64_t kGrain = 8;  // tokens
  ParallelRanges(tokens, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      RouteToken(c, bias, logits + t * c.num_experts,
                 routing->experts.data() + t * picks,
                 routing->weights.data() + t * picks);
    }
  });
}

}  // namespace mobe
