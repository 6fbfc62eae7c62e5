#include "model/model.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/file.h"
#include "base/parallel.h"
#include "kernels/expand.h"
#include "kernels/kernels.h"
#include "model/attention.h"
#include "model/experts.h"
#include "model/norm.h"
#include "model/rope.h"
#include "model/token_grain.h"

namespace mobe {
namespace {

// Tokens that pass through all layers together. Bounds the scratch memory of a
// long prompt; large enough that each of 128 experts still sees dozens.
constexpr int64_t kPromptChunk = 1024;

void AddStopIds(const ConfigReader& config, std::set<int32_t>* ids) {
  constexpr const char* kKey = "eos_token_id";
  if (!config.Has(kKey)) return;
  for (const int64_t id : config.Counts(kKey)) {
    if (id > INT32_MAX) config.Reject(kKey, "token ids below 2^31");
    ids->insert(static_cast<int32_t>(id));
  }
}

std::vector<int32_t> ReadStopIds(const Checkpoint& checkpoint) {
  std::set<int32_t> ids;
  AddStopIds({checkpoint.config(), checkpoint.config_path()}, &ids);
  const auto path = checkpoint.folder() / "generation_config.json";
  if (IsNamed(path)) {
    const Json json = ParseJson(ReadSmallFile(path), path.string());
    AddStopIds({json, path.string()}, &ids);
  }
  return {ids.begin(), ids.end()};
}

// y = RmsNorm(x) of many tokens.
void Norm(const std::vector<float>& weight, float eps, const float* x,
          int64_t tokens, float* y) {
  const auto hidden = static_cast<int64_t>(weight.size());
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    RmsNorm(weight, eps, x + begin * hidden, end - begin, y + begin * hidden);
  });
}

}  // namespace

struct Model::Scratch {
  RopeTable rope;
  Buffer<float> x;       // [tokens, hidden]: the residual stream
  Buffer<float> normed;  // the same shape, and the next too
  Buffer<float> attended;
  AttentionScratch attention;
  MlpScratch mlp;
};

Model::Model(OpenedModel opened, const LoadOptions& options)
    : opened_(std::make_unique<OpenedModel>(std::move(opened))),
      weights_(LoadWeights(*opened_, options)),
      precision_(options.precision),
      stop_ids_(ReadStopIds(opened_->checkpoint)),
      scratch_(new Scratch{RopeTable(config().rope), {}, {}, {}, {}, {}}) {}

Model::Model(Model&&) noexcept = default;
Model::~Model() = default;

Model Model::Load(const std::filesystem::path& folder,
                  const LoadOptions& options) {
  return {OpenModel(folder), options};
}

void Model::RunLayers(std::span<const int32_t> tokens, KvCache* cache,
                      const MoeObserver& observe) const {
  const ModelConfig& c = config();
  Scratch& s = *scratch_;
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t size = count * c.hidden_size;
  s.x.Resize(size);
  s.normed.Resize(size);
  s.attended.Resize(size);
  for (int64_t t = 0; t < count; ++t) {
    const WeightView row =
        weights_.embedding.Rows(tokens[static_cast<size_t>(t)], 1);
    ExpandWeights(row, s.x.data() + t * row.cols);
  }
  s.rope.Prepare(cache->length(), count);
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
    Norm(w.attention.norm, c.rms_norm_eps, s.x.data(), count, s.normed.data());
    const SequenceRows rows{0, count, cache};
    Attend(c, w.attention, s.rope, precision_, layer, s.normed.data(),
           {&rows, 1}, &s.attention, s.attended.data());
    Kernels().add(s.x.data(), s.attended.data(), size, s.x.data());
    Norm(w.mlp_norm, c.rms_norm_eps, s.x.data(), count, s.normed.data());
    RunMlp(c, w, precision_, layer, s.normed.data(), count, observe, &s.mlp,
           s.x.data());
  }
  cache->Append(count);
}

void Model::Forward(std::span<const int32_t> tokens, KvCache* cache,
                    LogitsFor which, float* logits,
                    const MoeObserver& observe) const {
  const ModelConfig& c = config();
  const auto count = static_cast<int64_t>(tokens.size());
  if (count == 0)
    Fail(ErrorKind::kUserInput, "no tokens to run: the text is empty");
  for (const int32_t token : tokens) {
    if (token >= 0 && token < c.vocab_size) continue;
    Fail(ErrorKind::kUserInput,
         "token id {} is not in the model's vocabulary of {} tokens", token,
         c.vocab_size);
  }
  cache->CheckRoom(count);
  for (int64_t begin = 0; begin < count; begin += kPromptChunk) {
    const int64_t chunk = std::min(kPromptChunk, count - begin);
    RunLayers(
        tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(chunk)),
        cache, observe);
    const bool all = which == LogitsFor::kAll;
    if (!all && begin + chunk < count) continue;
    const int64_t first = all ? 0 : chunk - 1;
    float* x = scratch_->x.data() + first * c.hidden_size;
    Norm(weights_.final_norm, c.rms_norm_eps, x, chunk - first, x);
    Linear(weights_.output, x, chunk - first, precision_,
           logits + (all ? begin * c.vocab_size : 0));
  }
}

}  // namespace mobe
