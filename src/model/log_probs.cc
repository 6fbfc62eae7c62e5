#include "model/log_probs.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mobe {

LogProbs LogProbsOf(std::span<const float> logits, int32_t token,
                    int64_t count) {
  std::vector<TokenLogProb> tokens;
  double max = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) continue;
    tokens.push_back({static_cast<int32_t>(i), logits[i]});
    max = std::max(max, tokens.back().log_prob);
  }
  double sum = 0;
  for (const TokenLogProb& t : tokens) sum += std::exp(t.log_prob - max);
  const double log_sum = max + std::log(sum);

  const auto kept = std::min(static_cast<size_t>(count), tokens.size());
  std::partial_sort(tokens.begin(), tokens.begin() + static_cast<int64_t>(kept),
                    tokens.end(),
                    [](const TokenLogProb& a, const TokenLogProb& b) {
                      if (a.log_prob != b.log_prob) {
                        return a.log_prob > b.log_prob;
                      }
                      return a.token < b.token;
                    });
  tokens.resize(kept);
  for (TokenLogProb& t : tokens) t.log_prob -= log_sum;
  return {logits[static_cast<size_t>(token)] - log_sum, std::move(tokens)};
}

}  // namespace mobe
