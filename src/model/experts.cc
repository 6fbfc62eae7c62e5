#include "model/experts.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "kernels/kernels.h"
#include "model/norm.h"
#include "model/token_grain.h"

namespace mobe {
namespace {

void RunRouter(const ModelConfig& c, const LayerWeights& w, const float* x,
               int64_t tokens, MlpScratch* s) {
  s->router_logits.Resize(tokens * c.num_experts);
  const WeightView router{NumberFormat::kF32, w.router.data(), c.num_experts,
                          c.hidden_size};
  Linear(router, x, tokens, {}, s->router_logits.data());
  Route(c, w.router_bias, s->router_logits.data(), tokens, &s->routing);
}

// Sorts the pairs by expert (a counting sort) and gathers their tokens' x.
void Gather(const ModelConfig& c, const float* x, int64_t tokens,
            MlpScratch* s) {
  const int64_t picks = s->routing.picks_per_token;
  const std::vector<int32_t>& experts = s->routing.experts;
  s->starts.assign(static_cast<size_t>(c.num_experts) + 1, 0);
  for (const int32_t e : experts) ++s->starts[static_cast<size_t>(e) + 1];
  std::partial_sum(s->starts.begin(), s->starts.end(), s->starts.begin());
  s->pair_of.Resize(tokens * picks);
  s->x.Resize(tokens * picks * c.hidden_size);
  int64_t* pair = s->pair_of.data();
  for (const int32_t e : experts) *pair++ = s->starts[static_cast<size_t>(e)]++;
  // Each start has moved on to the next expert's; shift them back.
  std::rotate(s->starts.begin(), s->starts.end() - 1, s->starts.end());
  s->starts.front() = 0;
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * picks; i < end * picks; ++i) {
      std::copy_n(x + i / picks * c.hidden_size, c.hidden_size,
                  s->x.data() + s->pair_of[i] * c.hidden_size);
    }
  });
}

// residual[t] += sum over the picks of t, in ascending experts.
void Combine(const ModelConfig& c, int64_t tokens, const MlpScratch& s,
             float* residual) {
  const int64_t picks = s.routing.picks_per_token;
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * picks; i < end * picks; ++i) {
      const float* from = s.down.data() + s.pair_of[i] * c.hidden_size;
      float* to = residual + i / picks * c.hidden_size;
      const float weight = s.routing.weights[static_cast<size_t>(i)];
      for (int64_t j = 0; j < c.hidden_size; ++j) to[j] += weight * from[j];
    }
  });
}

// residual += what runs for every token: one expert that all tokens have.
void RunDense(const LayerWeights& w, const Arithmetic& math, const float* x,
              int64_t tokens, MlpScratch* s, float* residual) {
  s->starts = {0, tokens};
  const ActiveExpert dense{0, *w.dense, 0, tokens};
  RunPlainExperts({&dense, 1}, x, math, s);
  if (w.shared_scale.empty()) {
    Kernels().add(residual, s->down.data(), s->down.size(), residual);
    return;
  }
  const auto hidden = static_cast<int64_t>(w.shared_scale.size());
  s->shared_scale.Resize(tokens);
  Linear({NumberFormat::kF32, w.shared_scale.data(), 1, hidden}, x, tokens, {},
         s->shared_scale.data());
  for (int64_t t = 0; t < tokens; ++t) {
    const float scale = 1 / (1 + std::exp(-s->shared_scale[t]));
    for (int64_t j = t * hidden; j < (t + 1) * hidden; ++j) {
      residual[j] += scale * s->down[j];
    }
  }
}

// Tells the next layer's experts what its router says of the residual before
// this layer has added to it. That is little, so most guesses come true.
void Guess(const ModelConfig& c, const RunnableLayer& next,
           const float* residual, int64_t tokens) {
  // Of more tokens, nearly every expert is picked.
  constexpr int64_t kFewTokens = 4;
  if (next.experts == nullptr || !next.experts->WantsHints() ||
      tokens > kFewTokens) {
    return;
  }
  thread_local MlpScratch guess;
  guess.x.Resize(tokens * c.hidden_size);
  RmsNorm(next.weights->mlp_norm, c.rms_norm_eps, residual, tokens,
          guess.x.data());
  RunRouter(c, *next.weights, guess.x.data(), tokens, &guess);
  next.experts->Expect(guess.routing.experts, Urgency::kLater);
}

}  // namespace

void RunMlp(const ModelConfig& c, const RunnableLayer& layer,
            const RunnableLayer& next, const Arithmetic& math, int64_t index,
            const float* x, int64_t tokens, const MoeObserver& observe,
            MlpScratch* s, float* residual) {
  const LayerWeights& w = *layer.weights;
  if (layer.experts != nullptr) {
    // First, for its experts may have to come from the disk.
    RunRouter(c, w, x, tokens, s);
    layer.experts->Expect(s->routing.experts, Urgency::kNow);
  }
  Guess(c, next, residual, tokens);
  if (w.dense) RunDense(w, math, x, tokens, s, residual);
  if (layer.experts == nullptr) return;
  if (observe) observe(index, x, s->routing);
  Gather(c, x, tokens, s);
  layer.experts->Run(math, s);
  Combine(c, tokens, *s, residual);
}

}  // namespace mobe
