// The two steps of a layer: the one forward pass, of a model that is loaded
// (model.h) and of one that is read layer by layer (layer_run.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/attention.h"
#include "model/experts.h"
#include "model/rope.h"
#include "model/weights.h"

namespace mobe {

// Independent of the number of threads. One call at a time: scratch memory is
// the object's.
class LayerSteps {
 public:
  // The config must outlive the object.
  LayerSteps(const ModelConfig& config, Precision precision)
      : config_(config),
        math_{Phase::kPrefill, precision},
        rope_(config.rope) {}

  // Tells whose tokens AddAttention takes through the next layer or layers;
  // SequenceRows are as of Attend. Counting them as seen is the caller's.
  void Begin(Phase phase, std::span<const SequenceRows> sequences);
  // x [tokens, hidden] += attention, with the caches' layer `layer`.
  void AddAttention(const AttentionWeights& weights, int64_t layer, float* x);
  // x [tokens, hidden] += the feed-forward part, of any tokens. `next` and
  // `observe` as of RunMlp; both may be empty.
  void AddMlp(const RunnableLayer& layer, const RunnableLayer& next,
              int64_t index, int64_t tokens, const MoeObserver& observe,
              float* x);

  // Of what ran last: its normed input [tokens, hidden], and what lies between
  // the steps of each.
  const Buffer<float>& normed() const { return normed_; }
  const AttentionScratch& attention() const { return attention_; }
  const MlpScratch& mlp() const { return mlp_; }

 private:
  const ModelConfig& config_;
  Arithmetic math_;
  std::vector<SequenceRows> sequences_;
  RopeTable rope_;
  Buffer<float> normed_;    // [tokens, hidden]
  Buffer<float> attended_;  // the same shape
  AttentionScratch attention_;
  MlpScratch mlp_;
};

// y = RmsNorm(x) of many tokens, by all threads; y may be x.
void NormTokens(std::span<const float> weight, float eps, const float* x,
                int64_t tokens, float* y);

}  // namespace mobe
