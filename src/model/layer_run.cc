#include "model/layer_run.h"

#include <algorithm>

#include "base/error.h"
#include "io/fp8.h"
#include "kernels/kernels.h"

namespace mobe {
namespace {

ModelConfig OfOneLayer(ModelConfig config) {
  config.num_layers = 1;
  return config;
}

}  // namespace

LayerRun::LayerRun(const OpenedModel& model, int64_t context)
    : model_(model),
      config_(model.config),
      layer_config_(OfOneLayer(model.config)),
      cache_(layer_config_, context),
      rope_(config_.rope) {}

void LayerRun::Embed(std::span<const int32_t> ids, float* states) const {
  const TensorView& embedding = model_.At(Role::kEmbedding);
  const int64_t hidden = config_.hidden_size;
  for (const int32_t id : ids) {
    LoadFloats(embedding, id * hidden, hidden, states);
    states += hidden;
  }
  model_.checkpoint.Evict(embedding);
}

void LayerRun::AddAttention(const LayerWeights& weights, float* states,
                            int64_t tokens) {
  const AttentionWeights& w = weights.attention;
  cache_.Truncate(0);
  for (int64_t begin = 0; begin < tokens; begin += kChunk) {
    const int64_t count = std::min(kChunk, tokens - begin);
    const int64_t size = count * config_.hidden_size;
    float* state = states + begin * config_.hidden_size;
    normed_.Resize(size);
    attended_.Resize(size);
    rope_.Prepare(cache_.length(), count);
    RmsNorm(w.norm, config_.rms_norm_eps, state, count, normed_.data());
    const SequenceRows rows{0, count, &cache_};
    Attend(layer_config_, w, rope_, Precision::kFloat32, 0, normed_.data(),
           {&rows, 1}, &attention_, attended_.data());
    cache_.Append(count);
    Kernels().add(state, attended_.data(), size, state);
  }
}

void LayerRun::AddMlp(const LayerWeights& weights, int64_t layer, float* states,
                      int64_t tokens) {
  normed_.Resize(tokens * config_.hidden_size);
  RmsNorm(weights.mlp_norm, config_.rms_norm_eps, states, tokens,
          normed_.data());
  RunMlp(config_, weights, Precision::kFloat32, layer, normed_.data(), tokens,
         nullptr, &mlp_, states);
}

void LayerRun::Evict(int64_t layer) const {
  for (const TensorSpec& spec : model_.tensors) {
    if (spec.layer != layer) continue;
    model_.checkpoint.Evict(model_.checkpoint.At(spec.name));
  }
}

void CheckTokens(const OpenedModel& model, std::span<const int32_t> ids,
                 int64_t context) {
  const std::string folder = model.checkpoint.folder().string();
  const ModelConfig& c = model.config;
  if (ids.empty()) {
    Fail(ErrorKind::kUserInput, "{}: no tokens to calibrate on", folder);
  }
  if (context < 1 || context > c.max_positions) {
    Fail(ErrorKind::kUserInput,
         "{}: a calibration context of {}, expected 1 to {}", folder, context,
         c.max_positions);
  }
  for (const int32_t id : ids) {
    if (id >= 0 && id < c.vocab_size) continue;
    Fail(ErrorKind::kUserInput,
         "{}: token id {} of the calibration is not in the vocabulary of {} "
         "tokens",
         folder, id, c.vocab_size);
  }
}

}  // namespace mobe
