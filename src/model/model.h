// A model that runs: from token ids to logits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "mobe/format.h"
#include "model/batch.h"
#include "model/expert_modes.h"
#include "model/experts.h"
#include "model/load_options.h"
#include "model/router.h"
#include "model/weights.h"

namespace mobe {

// What a model has run so far.
struct RunStatistics {
  struct Passes {
    int64_t tokens = 0;
    double seconds = 0;
  };
  Passes prefill;
  Passes decode;
  ExpertStatistics experts;

  Passes& Of(Phase phase) { return phase == Phase::kDecode ? decode : prefill; }
};
// What has come since.
RunStatistics operator-(const RunStatistics& now, const RunStatistics& before);

class Model {
 public:
  // Fails as OpenModel and PlanMemory do.
  static Model Load(const std::filesystem::path& folder,
                    const LoadOptions& options);
  Model(Model&&) noexcept;
  ~Model();

  const ModelConfig& config() const { return opened_->config; }
  // How experts are factored; nothing: the model is plain.
  const std::optional<MobeFormat>& mobe() const { return opened_->mobe; }
  const Weights& weights() const { return weights_; }
  // Of products with stored weights.
  Precision precision() const { return precision_; }
  // How memory is used, and who runs each layer's experts.
  const MemoryPlan& plan() const { return plan_; }
  const ModelExperts& experts() const { return experts_; }
  RunStatistics statistics() const;
  // Bytes of distinct weights that a step of one token reads: all but the
  // embedding, with experts_per_token experts in each layer and the bases once.
  int64_t DecodeBytes() const;
  // The checkpoint's folder, for what lies beside the weights.
  const std::filesystem::path& folder() const {
    return opened_->checkpoint.folder();
  }
  // Tokens that end a text: eos_token_id of generation_config.json and of
  // config.json, ascending.
  const std::vector<int32_t>& stop_ids() const { return stop_ids_; }

  // For a sequence of up to `context` tokens, in the format of LoadOptions.
  // Fails as KvCache does.
  KvCache NewCache(int64_t context) const {
    return {config(), context, cache_format_};
  }

  // Of so many texts those that may be there together: as many as memory was
  // planned for, where each has states.
  int64_t TextsTogether(int64_t wanted) const {
    return config().HasDeltaNets() ? std::min(wanted, plan_.sequences) : wanted;
  }

  // Memory for caches of several sequences, of so many tokens in all and a
  // page's more for each sequence.
  std::shared_ptr<CachePool> NewPool(int64_t tokens, int64_t sequences) const;

  // Fails with kUserInput when there is no token, or an id is not in [0,
  // vocab).
  void CheckTokens(std::span<const int32_t> tokens) const;

  // Tokens of any sequences that pass through a layer together, and what a
  // larger batch is cut into: bounds scratch memory. 1024, where memory allows,
  // so that each of 128 experts still sees dozens.
  int64_t pass_tokens() const { return plan_.pass_tokens; }
  // Tokens, of some passes, that have all been through a layer before the next
  // one runs: more than one pass where experts are read from the disk, so that
  // they are read once for all of them.
  int64_t step_tokens() const { return plan_.step_tokens; }

  // Runs the tokens of several sequences and appends them to their caches.
  // Writes the logits [wanted, vocab] of the parts in turn: those of token t +
  // 1 given tokens [0, t] of the sequence. Fails as CheckTokens
  // does, and with kUserInput when a context is exceeded; all caches are then
  // as before. What else fails leaves no cache with states to go on with
  // (KvCache::CheckRoom).
  //
  // A sequence's logits are, to the bit, those that it would get alone, and
  // however its prompt is cut into parts, if these tell what BatchPart asks:
  // but for experts that are cached, of which some are built after others have
  // run. Parts of one phase should lie together, since a pass is of one.
  //
  // `observe` sees of the last layer only tokens whose logits are wanted, as
  // only they go on from its attention. The scratch memory is the model's: one
  // call at a time.
  void Forward(std::span<const BatchPart> batch, float* logits,
               const MoeObserver& observe = nullptr) const;
  // A batch of one.
  void Forward(std::span<const int32_t> tokens, KvCache* cache, LogitsFor which,
               float* logits, const MoeObserver& observe = nullptr) const {
    const BatchPart part{tokens, cache, which};
    Forward({&part, 1}, logits, observe);
  }

 private:
  struct Scratch;
  struct Pass;
  Model(OpenedModel opened, const LoadOptions& options);

  RunnableLayer LayerAt(int64_t layer) const;
  void Embed(const Pass& pass, float* x) const;
  void RunLayer(const Pass& pass, int64_t layer, const RunnableLayer& next,
                const MoeObserver& observe, float* x) const;
  void RunPasses(std::span<const Pass> passes, const MoeObserver& observe,
                 float* logits) const;

  std::unique_ptr<OpenedModel> opened_;
  Weights weights_;
  MemoryPlan plan_;
  Precision precision_;
  ModelExperts experts_;
  CacheFormat cache_format_;
  std::vector<int32_t> stop_ids_;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace mobe
