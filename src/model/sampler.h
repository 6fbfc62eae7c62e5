// Chooses the next token from logits.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace mobe {

struct LogitBias {
  int32_t token;
  double bias;
};

// Applied in this order, each to what the ones before have left:
struct SamplerOptions {
  // Added to the logits of these tokens, as in OpenAI's API. Finite; tokens
  // without a logit are passed over.
  std::vector<LogitBias> logit_bias = {};
  // Logits of tokens seen before (prompt and output) are divided by it when
  // positive, multiplied when negative: Keskar et al. 2019, arXiv 1909.05858,
  // as in transformers. 1: off. More than 0.
  double repetition_penalty = 1;
  // What is taken from the logit of a token that was sampled before: once, and
  // for each time. As in OpenAI's API; prompts do not count. Finite; 0: off.
  double presence_penalty = 0;
  double frequency_penalty = 0;
  // Logits are divided by it. 0: greedy, the largest logit, and nothing below
  // matters. At least 0.
  double temperature = 0;
  // Keeps the k likeliest tokens. 0: all.
  int64_t top_k = 0;
  // Keeps the likeliest tokens whose probabilities first sum to top_p:
  // Holtzman et al. 2020, arXiv 1904.09751. In (0, 1]; 1: all.
  double top_p = 1;
  // Keeps tokens of at least min_p times the largest probability: arXiv
  // 2407.01082. In [0, 1]; 0: all.
  double min_p = 0;
  uint64_t seed = 0;
};

class Sampler {
 public:
  struct Candidate {
    int32_t token;
    double probability;
  };

  // Fails with kUserInput for an option out of its range.
  explicit Sampler(const SamplerOptions& options);

  // `seen` holds the tokens before, the first `prompt` of which were not
  // sampled; each has a logit. Logits that are not finite are never chosen;
  // fails with kCorruptFile when none is. Of equal logits the lowest token
  // comes first. The same seed gives the same tokens everywhere.
  int32_t Sample(std::span<const float> logits, std::span<const int32_t> seen,
                 int64_t prompt = 0);

  // What Sample draws from; one token when greedy. Probabilities sum to 1.
  // Valid until the next call.
  std::span<const Candidate> Distribution(std::span<const float> logits,
                                          std::span<const int32_t> seen,
                                          int64_t prompt = 0);

 private:
  void AddBiases();
  void Penalise(std::span<const int32_t> seen);
  void PenaliseSampled(std::span<const int32_t> sampled);
  void KeepTopK();
  void KeepTopP();
  void KeepMinP();
  void Normalise();

  SamplerOptions options_;
  std::mt19937_64 random_;
  std::vector<float> logits_;
  std::vector<Candidate> candidates_;
};

}  // namespace mobe
