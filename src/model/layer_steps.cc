#include "model/layer_steps.h"

#include "base/parallel.h"
#include "kernels/kernels.h"
#include "model/norm.h"
#include "model/token_grain.h"

namespace mobe {

void LayerSteps::Begin(Phase phase, std::span<const SequenceRows> sequences) {
  math_.phase = phase;
  sequences_.assign(sequences.begin(), sequences.end());
  std::vector<int64_t> positions;
  for (const SequenceRows& rows : sequences_) {
    for (int64_t t = 0; t < rows.count; ++t) {
      positions.push_back(rows.position + t);
    }
  }
  rope_.Prepare(positions);
}

void LayerSteps::AddAttention(const AttentionWeights& w, int64_t layer,
                              float* x) {
  const int64_t hidden = config_.hidden_size;
  const int64_t tokens = sequences_.back().first + sequences_.back().count;
  normed_.Resize(tokens * hidden);
  attended_.Resize(tokens * hidden);
  NormTokens(w.norm, config_.rms_norm_eps, x, tokens, normed_.data());
  Attend(config_, w, rope_, math_, layer, normed_.data(), sequences_,
         &attention_, attended_.data());
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    float* rows = x + begin * hidden;
    Kernels().add(rows, attended_.data() + begin * hidden,
                  (end - begin) * hidden, rows);
  });
}

void LayerSteps::AddMlp(const RunnableLayer& layer, const RunnableLayer& next,
                        int64_t index, int64_t tokens,
                        const MoeObserver& observe, float* x) {
  normed_.Resize(tokens * config_.hidden_size);
  NormTokens(layer.weights->mlp_norm, config_.rms_norm_eps, x, tokens,
             normed_.data());
  RunMlp(config_, layer, next, math_, index, normed_.data(), tokens, observe,
         &mlp_, x);
}

void NormTokens(std::span<const float> weight, float eps, const float* x,
                int64_t tokens, float* y) {
  const auto hidden = static_cast<int64_t>(weight.size());
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    RmsNorm(weight, eps, x + begin * hidden, end - begin, y + begin * hidden);
  });
}

}  // namespace mobe
