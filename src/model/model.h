// A model that runs: from token ids to logits.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "model/kv_cache.h"
#include "model/router.h"
#include "model/weights.h"

namespace mobe {

// Which tokens' logits are wanted.
enum class LogitsFor {
  kAll,   // [tokens, vocab]
  kLast,  // [1, vocab]
};

class Model {
 public:
  // Fails as OpenModel and LoadWeights do.
  static Model Load(const std::filesystem::path& folder,
                    const LoadOptions& options);
  Model(Model&&) noexcept;
  ~Model();

  const ModelConfig& config() const { return opened_->config; }
  const Weights& weights() const { return weights_; }
  // The checkpoint's folder, for what lies beside the weights.
  const std::filesystem::path& folder() const {
    return opened_->checkpoint.folder();
  }
  // Tokens that end a text: eos_token_id of generation_config.json and of
  // config.json, ascending.
  const std::vector<int32_t>& stop_ids() const { return stop_ids_; }

  // Runs the tokens of one sequence behind those in the cache and appends them.
  // Writes the logits of token t + 1 given tokens [0, t]. Fails with kUserInput
  // when there is no token, an id is not in [0, vocab) or the context is
  // exceeded; the cache is then as before. The scratch memory is the model's:
  // one call at a time.
  void Forward(std::span<const int32_t> tokens, KvCache* cache, LogitsFor which,
               float* logits, const MoeObserver& observe = nullptr) const;

 private:
  struct Scratch;
  Model(OpenedModel opened, const LoadOptions& options);

  void RunLayers(std::span<const int32_t> tokens, KvCache* cache,
                 const MoeObserver& observe) const;

  std::unique_ptr<OpenedModel> opened_;
  Weights weights_;
  Precision precision_;
  std::vector<int32_t> stop_ids_;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace mobe
