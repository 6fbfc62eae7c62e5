#include "model/layer_walk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace mobe {

LayerWalk::LayerWalk(const OpenedModel& model, const CalibrationTokens& tokens)
    : model_(model),
      count_(std::ssize(tokens.ids)),
      context_(std::min(tokens.context, count_)),
      run_(model, context_),
      hidden_(count_ * model.config.hidden_size) {
  run_.Embed(tokens.ids, hidden_.data());
}

void LayerWalk::RunLayer(int64_t layer, const LayerObserver& observer,
                         const std::function<void(double)>& progress) {
  const Weights weights = LoadOneLayer(model_, layer);
  const LayerWeights& w = weights.layers.front();
  const int64_t hidden = model_.config.hidden_size;
  const auto all = static_cast<double>(count_);
  std::function<void(int64_t)> attended;
  if (observer.attention) {
    attended = [&](int64_t tokens) { observer.attention(w, tokens); };
  }
  for (int64_t begin = 0; begin < count_; begin += context_) {
    run_.AddAttention(w, hidden_.data() + begin * hidden,
                      std::min(context_, count_ - begin), attended);
    progress(0.5 * static_cast<double>(begin) / all);
  }
  // Not window by window: experts are fast on many tokens.
  constexpr int64_t kChunk = LayerRun::kChunk;
  for (int64_t begin = 0; begin < count_; begin += kChunk) {
    const int64_t tokens = std::min(kChunk, count_ - begin);
    MoeObserver shared;
    if (observer.shared) {
      shared = [&](int64_t, const float*, const Routing&) {
        observer.shared(w, tokens);
      };
    }
    run_.AddMlp(w, layer, hidden_.data() + begin * hidden, tokens, shared);
    if (observer.mlp) observer.mlp(w, tokens);
    progress(0.5 + 0.5 * static_cast<double>(begin) / all);
  }
  run_.Evict(layer);
}

std::function<void(double)> ProgressOfLayer(const ProgressFn& progress,
                                            int64_t layer, int64_t layers) {
  return [&progress, layer, layers](double part) {
    progress({(static_cast<double>(layer) + part) / static_cast<double>(layers),
              fmt::format("calibrating layer {}", layer)});
  };
}

void CheckCalibrated(const OpenedModel& model, const std::string& name,
                     std::span<const float> values) {
  for (const float value : values) {
    if (std::isfinite(value)) continue;
    Fail(ErrorKind::kCorruptFile,
         "{}: the calibration gives {} that is not finite; the weights are "
         "damaged, or too large to be run in float32",
         model.checkpoint.folder().string(), name);
  }
}

}  // namespace mobe
