// Log-probabilities of next tokens, as a model gives them: before temperature,
// penalties and what else a sampler does.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mobe {

struct TokenLogProb {
  int32_t token;
  double log_prob;  // in nats
};

struct LogProbs {
  double log_prob = 0;            // of the token itself
  std::vector<TokenLogProb> top;  // the likeliest first, the lowest of equals
};

// Of `token`, and of the `count` likeliest tokens. `logits` [vocab] hold one
// that is finite; those that are not have no probability.
LogProbs LogProbsOf(std::span<const float> logits, int32_t token,
                    int64_t count);

}  // namespace mobe
