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

// What passes through a layer together, all of one phase.
struct Model::Pass {
  Phase phase;
  std::vector<int32_t> tokens = {};
  std::vector<SequenceRows> sequences = {};
  std::vector<int64_t> wanted = {};  // tokens whose logits are, ascending

  int64_t size() const { return std::ssize(tokens); }
  // Adds the tokens [begin, end) of a part that follows `length` tokens.
  void Add(const BatchPart& part, int64_t length, int64_t begin, int64_t end) {
    const int64_t of_part = std::ssize(part.tokens);
    sequences.push_back({size(), end - begin, part.cache, length + begin,
                         part.before + begin, part.after + of_part - end});
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

void Model::Embed(const Pass& pass, float* x) const {
  for (const int32_t token : pass.tokens) {
    ExpandWeights(weights_.embedding.Rows(token, 1), x);
    x += config().hidden_size;
  }
}

void Model::RunLayer(const Pass& pass, int64_t layer, const RunnableLayer& next,
                     const MoeObserver& observe, float* x) const {
  const ModelConfig& c = config();
  LayerSteps& steps = scratch_->steps;
  steps.AddAttention(weights_.layers[static_cast<size_t>(layer)].attention,
                     layer, x);
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
  if (tokens == 0) return;
  steps.AddMlp(LayerAt(layer), next, layer, tokens, observe, x);
}

void Model::RunPasses(std::span<const Pass> passes, const MoeObserver& observe,
                      float* logits) const {
  const ModelConfig& c = config();
  int64_t tokens = 0;
  for (const Pass& pass : passes) tokens += pass.size();
  scratch_->x.Resize(tokens * c.hidden_size);
  const auto for_each = [&](const auto& body) {
    float* x = scratch_->x.data();
    for (const Pass& pass : passes) {
      const double start = MonotonicSeconds();
      body(pass, x);
      scratch_->statistics.Of(pass.phase).seconds += MonotonicSeconds() - start;
      x += pass.size() * c.hidden_size;
    }
  };
  for_each([&](const Pass& pass, float* x) { Embed(pass, x); });
  // Of the embedding every text reads other rows.
  if (plan_.evicts && !c.tie_embeddings) {
    for (const Plane& plane : PlanesOf(weights_.embedding)) {
      opened_->checkpoint.Evict(plane);
    }
  }
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    for_each([&](const Pass& pass, float* x) {
      if (layer == 0 || passes.size() > 1) {
        scratch_->steps.Begin(pass.phase, pass.sequences);
      }
      // The next pass reads this layer's experts again.
      const bool is_last = &pass == &passes.back();
      RunLayer(pass, layer, is_last ? LayerAt(layer + 1) : RunnableLayer{},
               observe, x);
    });
  }
  // Of all passes, before anything else can fail.
  for (const Pass& pass : passes) {
    for (const SequenceRows& rows : pass.sequences) {
      rows.cache->Append(rows.count);
    }
    scratch_->statistics.Of(pass.phase).tokens += pass.size();
  }
  for_each([&](const Pass& pass, float* x) {
    const int64_t wanted = std::ssize(pass.wanted);
    if (wanted == 0) return;
    NormTokens(weights_.final_norm, c.rms_norm_eps, x, wanted, x);
    Linear(weights_.output, x, wanted, {pass.phase, precision_}, logits);
    logits += wanted * c.vocab_size;
  });
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
  std::vector<Pass> passes;
  int64_t tokens = 0;  // of them
  const auto run = [&] {
    RunPasses(passes, observe, logits);
    for (const Pass& pass : passes) {
      logits += std::ssize(pass.wanted) * config().vocab_size;
    }
    passes.clear();
    tokens = 0;
  };
  for (const BatchPart& part : batch) {
    const int64_t count = std::ssize(part.tokens);
    const int64_t length = part.cache->length();  // which a step adds to
    for (int64_t begin = 0, end = 0; begin < count; begin = end) {
      if (passes.empty() || passes.back().phase != part.phase ||
          passes.back().size() == plan_.pass_tokens) {
        passes.push_back({part.phase});
      }
      end = std::min({count, begin + plan_.pass_tokens - passes.back().size(),
                      begin + plan_.step_tokens - tokens});
      passes.back().Add(part, length, begin, end);
      tokens += end - begin;
      if (tokens == plan_.step_tokens) run();
    }
  }
  if (!passes.empty()) run();
}

}  // namespace mobe
