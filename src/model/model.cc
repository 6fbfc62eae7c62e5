#include "model/model.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/file.h"
#include "base/progress.h"
#include "kernels/expand.h"
#include "model/layer_steps.h"

namespace mobe {
namespace {

void AddStopIds(const ConfigReader& config, std::set<int32_t>* ids) {
  constexpr const char* kKey = "eos_token_id";
  if (!config.Has(kKey)) return;
  // -1 stands for "none" in some configs; no token is ever equal to it.
  if (config.Value(kKey) == -1) return;
  for (const int64_t id : config.Counts(kKey)) {
    if (id > INT32_MAX) config.Reject(kKey, "token ids below 2^31");
    ids->insert(static_cast<int32_t>(id));
  }
}

std::vector<int32_t> ReadStopIds(const Checkpoint& checkpoint) {
  std::set<int32_t> ids;
  const ConfigReader config(checkpoint.config(), checkpoint.config_path());
  AddStopIds(config, &ids);
  if (config.Has("text_config")) AddStopIds(config.Object("text_config"), &ids);
  const auto path = checkpoint.folder() / "generation_config.json";
  if (IsNamed(path)) {
    const Json json = ParseJson(ReadSmallFile(path), path.string());
    AddStopIds({json, path.string()}, &ids);
  }
  return {ids.begin(), ids.end()};
}

}  // namespace

RunStatistics operator-(const RunStatistics& now, const RunStatistics& before) {
  const auto minus = [](const auto& a, const auto& b) {
    return RunStatistics::Passes{a.tokens - b.tokens, a.seconds - b.seconds};
  };
  return {minus(now.prefill, before.prefill), minus(now.decode, before.decode),
          now.experts - before.experts};
}

struct Model::Scratch {
  LayerSteps steps;
  Buffer<float> x = {};           // [tokens, hidden]: the residual stream
  RunStatistics statistics = {};  // but those of experts, who count themselves
};

// What passes through the layers together.
struct Model::Pass {
  Phase phase = Phase::kPrefill;
  std::vector<int32_t> tokens;
  std::vector<SequenceRows> sequences;
  std::vector<int64_t> wanted;  // tokens whose logits are, ascending

  int64_t size() const { return std::ssize(tokens); }
  // Adds the part's tokens [begin, end).
  void Add(const BatchPart& part, int64_t begin, int64_t end) {
    const int64_t of_part = std::ssize(part.tokens);
    phase = part.phase;
    sequences.push_back({size(), end - begin, part.cache, part.before + begin,
                         part.after + of_part - end});
    for (int64_t t = begin; t < end; ++t) {
      if (part.logits == LogitsFor::kAll ||
          (part.logits == LogitsFor::kLast && t == of_part - 1)) {
        wanted.push_back(size());
      }
      tokens.push_back(part.tokens[static_cast<size_t>(t)]);
    }
  }
};

Model::Model(OpenedModel opened, const LoadOptions& options)
    : opened_(std::make_unique<OpenedModel>(std::move(opened))),
      weights_(LoadWeights(*opened_)),
      plan_(PlanMemory(*opened_, weights_, options)),
      precision_(options.precision ? *options.precision : FasterPrecision()),
      experts_(MakeExperts(*opened_, weights_, options, plan_)),
      cache_format_(options.cache),
      stop_ids_(ReadStopIds(opened_->checkpoint)),
      scratch_(new Scratch{LayerSteps(config(), precision_)}) {}

Model::Model(Model&&) noexcept = default;
Model::~Model() = default;

Model Model::Load(const std::filesystem::path& folder,
                  const LoadOptions& options) {
  OpenedModel model = OpenModel(folder);
  CheckRuns(*model.family, folder.string());
  return {std::move(model), options};
}

// Past the last layer there is nothing.
RunnableLayer Model::LayerAt(int64_t layer) const {
  if (layer == config().num_layers) return {};
  const auto i = static_cast<size_t>(layer);
  return {&weights_.layers[i], experts_.layers[i].get()};
}

RunStatistics Model::statistics() const {
  RunStatistics statistics = scratch_->statistics;
  statistics.experts = StatisticsOf(experts_);
  return statistics;
}

int64_t Model::DecodeBytes() const {
  int64_t bytes = weights_.output.bytes();
  for (size_t i = 0; i < weights_.layers.size(); ++i) {
    const LayerWeights& layer = weights_.layers[i];
    for (const WeightView* matrix : layer.attention.Matrices()) {
      bytes += matrix->bytes();
    }
    if (layer.dense) bytes += layer.dense->bytes();
    bytes += static_cast<int64_t>(layer.router.size() * sizeof(float));
    const auto& experts = experts_.layers[i];
    if (experts) bytes += experts->TokenBytes(config().experts_per_token);
  }
  return bytes;
}

void Model::RunPass(const Pass& pass, const MoeObserver& observe,
                    float* logits) const {
  const ModelConfig& c = config();
  LayerSteps& steps = scratch_->steps;
  const int64_t wanted = std::ssize(pass.wanted);
  scratch_->x.Resize(pass.size() * c.hidden_size);
  float* x = scratch_->x.data();
  for (int64_t t = 0; t < pass.size(); ++t) {
    ExpandWeights(
        weights_.embedding.Rows(pass.tokens[static_cast<size_t>(t)], 1),
        x + t * c.hidden_size);
  }
  steps.Begin(pass.phase, pass.sequences);
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
    steps.AddAttention(w.attention, layer, x);
    int64_t tokens = pass.size();
    if (layer == c.num_layers - 1) {
      // The others have left their keys and values, and are done.
      tokens = 0;
      for (const int64_t t : pass.wanted) {
        if (t != tokens) {
          std::copy_n(x + t * c.hidden_size, c.hidden_size,
                      x + tokens * c.hidden_size);
        }
        ++tokens;
      }
    }
    if (tokens > 0) {
      steps.AddMlp(LayerAt(layer), LayerAt(layer + 1), layer, tokens, observe,
                   x);
    }
  }
  steps.Finish();
  // Of the embedding every text reads other rows.
  if (plan_.evicts && !c.tie_embeddings) {
    for (const Plane& plane : PlanesOf(weights_.embedding)) {
      opened_->checkpoint.Evict(plane);
    }
  }
  if (wanted == 0) return;
  NormTokens(weights_.final_norm, c.rms_norm_eps, x, wanted, x);
  Linear(weights_.output, x, wanted, steps.math(), logits);
}

std::shared_ptr<CachePool> Model::NewPool(int64_t tokens,
                                          int64_t sequences) const {
  return std::make_shared<CachePool>(
      config(), cache_format_,
      (tokens + kPageTokens - 1) / kPageTokens + sequences);
}

void Model::CheckTokens(std::span<const int32_t> tokens) const {
  if (tokens.empty()) {
    Fail(ErrorKind::kUserInput, "no tokens to run: the text is empty");
  }
  for (const int32_t token : tokens) {
    if (token >= 0 && token < config().vocab_size) continue;
    Fail(ErrorKind::kUserInput,
         "token id {} is not in the model's vocabulary of {} tokens", token,
         config().vocab_size);
  }
}

void Model::Forward(std::span<const BatchPart> batch, float* logits,
                    const MoeObserver& observe) const {
  for (const BatchPart& part : batch) {
    CheckTokens(part.tokens);
    part.cache->CheckRoom(std::ssize(part.tokens));
    if (part.phase == Phase::kDecode && part.tokens.size() > 1) {
      Fail(ErrorKind::kInternal, "{} tokens of one text to decode, expected 1",
           part.tokens.size());
    }
  }
  Pass pass;
  const auto run = [&] {
    const double start = MonotonicSeconds();
    RunPass(pass, observe, logits);
    RunStatistics& all = scratch_->statistics;
    auto& passes = pass.phase == Phase::kDecode ? all.decode : all.prefill;
    passes.tokens += pass.size();
    passes.seconds += MonotonicSeconds() - start;
    logits += std::ssize(pass.wanted) * config().vocab_size;
    pass = {};
  };
  for (const BatchPart& part : batch) {
    const int64_t count = std::ssize(part.tokens);
    if (pass.size() > 0 && pass.phase != part.phase) run();
    for (int64_t begin = 0, end = 0; begin < count; begin = end) {
      end = std::min(count, begin + plan_.pass_tokens - pass.size());
      pass.Add(part, begin, end);
      if (pass.size() == plan_.pass_tokens) run();
    }
  }
  if (pass.size() > 0) run();
}

}  // namespace mobe
