#include "model/layer_run.h"

#include <algorithm>

#include "base/error.h"
#include "io/fp8.h"
#include "model/stored_experts.h"

namespace mobe {
namespace {

// One layer of each kind: of attention, and before it a delta net if the model
// has such.
ModelConfig OneOfEach(ModelConfig config) {
  config.num_layers = config.HasDeltaNets() ? 2 : 1;
  config.attention_interval = config.num_layers;
  return config;
}

}  // namespace

LayerRun::LayerRun(const OpenedModel& model, int64_t context)
    : model_(model),
      cache_(OneOfEach(model.config), context),
      steps_(model.config, Precision::kFloat32) {}

void LayerRun::Embed(std::span<const int32_t> ids, float* states) const {
  const TensorView& embedding = model_.At(Role::kEmbedding);
  const int64_t hidden = model_.config.hidden_size;
  for (const int32_t id : ids) {
    LoadFloats(embedding, id * hidden, hidden, states);
    states += hidden;
  }
  model_.checkpoint.Evict(embedding);
}

void LayerRun::AddAttention(const LayerWeights& weights, float* states,
                            int64_t tokens,
                            const std::function<void(int64_t)>& after) {
  cache_.Truncate(0);
  // Of the cache's, as OneOfEach has them.
  const bool is_second =
      model_.config.HasDeltaNets() && !weights.attention.delta;
  for (int64_t begin = 0; begin < tokens; begin += kChunk) {
    const int64_t count = std::min(kChunk, tokens - begin);
    const SequenceRows rows{0,     count, &cache_,
                            begin, begin, tokens - begin - count};
    steps_.Begin(Phase::kPrefill, {&rows, 1});
    steps_.AddAttention(weights.attention, is_second ? 1 : 0,
                        states + begin * model_.config.hidden_size);
    cache_.Append(count);
    if (after) after(rows.count);
  }
}

void LayerRun::AddMlp(const LayerWeights& weights, int64_t layer, float* states,
                      int64_t tokens, const MoeObserver& observe) {
  StoredExperts experts(weights);
  steps_.AddMlp({&weights, weights.experts.empty() ? nullptr : &experts}, {},
                layer, tokens, observe, states);
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
  CheckRuns(*model.family, folder);
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
