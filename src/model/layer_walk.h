// The hidden states of a calibration's tokens on their way through the layers,
// a layer in memory at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/matrix.h"
#include "model/layer_run.h"
#include "model/moments.h"

namespace mobe {

// Who looks on while a layer runs; each may be null. `tokens` are those that
// have just passed, and the layer's scratch memory (LayerWalk::run) has what
// they met.
struct LayerObserver {
  using Fn = std::function<void(const LayerWeights& weights, int64_t tokens)>;
  Fn attention = nullptr;  // as LayerRun::AddAttention's
  // Between shared experts and the others, which use their memory.
  Fn shared = nullptr;
  Fn mlp = nullptr;
};

class LayerWalk {
 public:
  // Embeds the tokens. The model must outlive the object.
  LayerWalk(const OpenedModel& model, const CalibrationTokens& tokens);

  // Takes the states [count, hidden] through a layer. `progress` gets the share
  // of it that is done.
  void RunLayer(int64_t layer, const LayerObserver& observer,
                const std::function<void(double)>& progress);

  int64_t count() const { return count_; }
  LayerRun& run() { return run_; }
  float* states() { return hidden_.data(); }

 private:
  const OpenedModel& model_;
  const int64_t count_;
  const int64_t context_;
  LayerRun run_;
  Buffer<float> hidden_;
};

// What passes the share of a layer that is done on as that of all layers.
// `progress` must outlive the result.
std::function<void(double)> ProgressOfLayer(const ProgressFn& progress,
                                            int64_t layer, int64_t layers);

// Fails with kCorruptFile when one of the values is not finite that a
// calibration has found; `name` says which they are.
void CheckCalibrated(const OpenedModel& model, const std::string& name,
                     std::span<const float> values);

}  // namespace mobe
