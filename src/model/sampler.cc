#include "model/sampler.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>

#include "base/error.h"

namespace mobe {
namespace {

void CheckRange(const char* name, double value, bool valid,
                const char* expected) {
  if (valid) return;
  Fail(ErrorKind::kUserInput, "{} is {}, expected {}", name, value, expected);
}

bool IsFinite(const LogitBias& b) { return std::isfinite(b.bias); }

// Likeliest first, the lowest token first among equals.
bool Before(const Sampler::Candidate& a, const Sampler::Candidate& b) {
  if (a.probability != b.probability) return a.probability > b.probability;
  return a.token < b.token;
}

}  // namespace

Sampler::Sampler(const SamplerOptions& o) : options_(o), random_(o.seed) {
  CheckRange("repetition penalty", o.repetition_penalty,
             o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty),
             "more than 0");
  CheckRange("presence penalty", o.presence_penalty,
             std::isfinite(o.presence_penalty), "a number");
  CheckRange("frequency penalty", o.frequency_penalty,
             std::isfinite(o.frequency_penalty), "a number");
  const auto bad = std::ranges::find_if_not(o.logit_bias, IsFinite);
  CheckRange("logit bias", bad == o.logit_bias.end() ? 0 : bad->bias,
             bad == o.logit_bias.end(), "a number");
  CheckRange("temperature", o.temperature,
             o.temperature >= 0 && std::isfinite(o.temperature), "at least 0");
  CheckRange("top-k", static_cast<double>(o.top_k), o.top_k >= 0,
             "at least 0 (0: all tokens)");
  CheckRange("top-p", o.top_p, o.top_p > 0 && o.top_p <= 1,
             "more than 0 and at most 1");
  CheckRange("min-p", o.min_p, o.min_p >= 0 && o.min_p <= 1, "from 0 to 1");
}

void Sampler::AddBiases() {
  for (const LogitBias& b : options_.logit_bias) {
    if (b.token < 0 || std::cmp_greater_equal(b.token, logits_.size())) {
      continue;
    }
    logits_[static_cast<size_t>(b.token)] += static_cast<float>(b.bias);
  }
}

// A token that was seen several times is penalised once.
void Sampler::Penalise(std::span<const int32_t> seen) {
  if (options_.repetition_penalty == 1) return;
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  std::vector<int32_t> tokens(seen.begin(), seen.end());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  for (const int32_t token : tokens) {
    float& logit = logits_[static_cast<size_t>(token)];
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
}

void Sampler::PenaliseSampled(std::span<const int32_t> sampled) {
  const double presence = options_.presence_penalty;
  const double frequency = options_.frequency_penalty;
  if (presence == 0 && frequency == 0) return;
  std::unordered_map<int32_t, int64_t> counts;
  for (const int32_t token : sampled) ++counts[token];
  for (const auto& [token, count] : counts) {
    logits_[static_cast<size_t>(token)] -=
        static_cast<float>(presence + frequency * static_cast<double>(count));
  }
}

void Sampler::KeepTopK() {
  const auto k = static_cast<size_t>(options_.top_k);
  if (k == 0 || k >= candidates_.size()) return;
  std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k,
                   candidates_.end(), Before);
  candidates_.resize(k);
}

// Sorts no more than it must: vocabularies are large, the kept part mostly
// small.
void Sampler::KeepTopP() {
  if (options_.top_p == 1) return;
  Normalise();
  const size_t size = candidates_.size();
  for (size_t sorted = std::min<size_t>(256, size);;
       sorted = std::min(4 * sorted, size)) {
    std::partial_sort(candidates_.begin(),
                      candidates_.begin() + static_cast<int64_t>(sorted),
                      candidates_.end(), Before);
    double sum = 0;
    for (size_t n = 0; n < sorted; ++n) {
      sum += candidates_[n].probability;
      if (sum < options_.top_p) continue;
      candidates_.resize(n + 1);
      return;
    }
    if (sorted == size) return;  // rounding: all together stay below top_p
  }
}

void Sampler::KeepMinP() {
  const auto largest =
      std::min_element(candidates_.begin(), candidates_.end(), Before);
  const double least = options_.min_p * largest->probability;
  std::erase_if(candidates_,
                [=](const Candidate& c) { return c.probability < least; });
}

void Sampler::Normalise() {
  double sum = 0;
  for (const Candidate& c : candidates_) sum += c.probability;
  for (Candidate& c : candidates_) c.probability /= sum;
}

std::span<const Sampler::Candidate> Sampler::Distribution(
    std::span<const float> logits, std::span<const int32_t> seen,
    int64_t prompt) {
  logits_.assign(logits.begin(), logits.end());
  AddBiases();
  Penalise(seen);
  PenaliseSampled(seen.subspan(static_cast<size_t>(prompt)));
  int32_t best = -1;
  for (size_t i = 0; i < logits_.size(); ++i) {
    if (!std::isfinite(logits_[i])) continue;
    if (best < 0 || logits_[i] > logits_[static_cast<size_t>(best)]) {
      best = static_cast<int32_t>(i);
    }
  }
  if (best < 0) {
    Fail(ErrorKind::kCorruptFile,
         "the model gave no finite logit; its weights are damaged");
  }
  candidates_.clear();
  if (options_.temperature == 0) {
    candidates_.push_back({best, 1});
    return candidates_;
  }
  const double max = logits_[static_cast<size_t>(best)];
  for (size_t i = 0; i < logits_.size(); ++i) {
    if (!std::isfinite(logits_[i])) continue;
    candidates_.push_back(
        {static_cast<int32_t>(i),
         std::exp((logits_[i] - max) / options_.temperature)});
  }
  KeepTopK();
  KeepTopP();
  KeepMinP();
  Normalise();
  return candidates_;
}

int32_t Sampler::Sample(std::span<const float> logits,
                        std::span<const int32_t> seen, int64_t prompt) {
  const auto candidates = Distribution(logits, seen, prompt);
  // The 53 upper bits: std::uniform_real_distribution differs between standard
  // libraries.
  double left = static_cast<double>(random_() >> 11) * 0x1p-53;
  for (const Candidate& c : candidates) {
    if (left < c.probability) return c.token;
    left -= c.probability;
  }
  return candidates.back().token;  // rounding: the sum was just below 1
}

}  // namespace mobe
