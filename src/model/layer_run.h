// Running a model out of core: all tokens pass through a layer before the next
// is touched, so each weight is read once and only one layer is in memory,
// beside the tokens' hidden states, which are the caller's.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "mobe/open_model.h"
#include "model/layer_steps.h"
#include "model/weights.h"

namespace mobe {

// Everything in float32; independent of the number of threads. One call at a
// time: scratch memory is the object's.
class LayerRun {
 public:
  // Tokens that pass through a step together: bounds scratch memory and the
  // length of float32 sums.
  static constexpr int64_t kChunk = 1024;

  // `context`: tokens of the longest window, at most the model's positions. The
  // model must outlive the object.
  LayerRun(const OpenedModel& model, int64_t context);

  // states [ids, hidden] = the embeddings.
  void Embed(std::span<const int32_t> ids, float* states) const;
  // states += attention of one window, from position 0. `after` is called with
  // the number of tokens that have passed together; it may be empty.
  void AddAttention(const LayerWeights& weights, float* states, int64_t tokens,
                    const std::function<void(int64_t)>& after = nullptr);
  // states += the feed-forward part, of at most kChunk tokens of any windows.
  // `observe` as of RunMlp.
  void AddMlp(const LayerWeights& weights, int64_t layer, float* states,
              int64_t tokens, const MoeObserver& observe = nullptr);
  // Of what ran last: its normed input [tokens, hidden], and what lies between
  // the steps of each.
  const Buffer<float>& normed() const { return steps_.normed(); }
  const AttentionScratch& attention() const { return steps_.attention(); }
  const MlpScratch& mlp() const { return steps_.mlp(); }

  // Lets go of a layer's pages.
  void Evict(int64_t layer) const;

 private:
  const OpenedModel& model_;
  KvCache cache_;  // of the layer that runs, whatever its kind
  LayerSteps steps_;
};

// Checks ids and context. Fails with kUserInput, naming the model's folder.
void CheckTokens(const OpenedModel& model, std::span<const int32_t> ids,
                 int64_t context);

}  // namespace mobe
