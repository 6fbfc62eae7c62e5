// Generates text from a prompt.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/stop.h"
#include "model/kv_cache.h"
#include "model/model.h"
#include "model/sampler.h"
#include "text/tokenizer.h"

namespace mobe {

struct GenerateOptions {
  int64_t max_tokens = 128;  // at least 1
  std::vector<std::string> stop = {};
  SamplerOptions sampler = {};
};

enum class FinishReason {
  kStop,         // an end-of-text token or a stop string
  kLength,       // max_tokens, or the end of the context
  kInterrupted,  // from outside
};

// "stop", "length", "interrupted"
const char* FinishReasonName(FinishReason reason);

struct GenerateResult {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of these, computed before
  int64_t tokens = 0;         // sampled, with the one that ended the text
  FinishReason reason = FinishReason::kLength;
  double prefill_seconds = 0;  // to the first token
  double decode_seconds = 0;   // from the first token to the last
};

// Texts from prompts that mostly begin alike, as those of a conversation do:
// the keys and values of what a prompt has in common with the tokens before are
// not computed again.
class GenerateSession {
 public:
  // Prompt and text have up to `context` tokens; fails as KvCache does. The
  // model and the tokenizer must outlive the session.
  GenerateSession(const Model& model, const Tokenizer& tokenizer,
                  int64_t context)
      : model_(&model),
        tokenizer_(&tokenizer),
        cache_(model.config(), context) {}

  int64_t context() const { return cache_.context(); }

  // Calls `show` with pieces of the text, well-formed UTF-8 each, as soon as it
  // is sure that they belong to it; neither an end-of-text token nor a stop
  // string is shown. `stop` is asked before each token and each part of the
  // prompt. Fails with kUserInput when the prompt is empty or exceeds the
  // context; the session can go on.
  GenerateResult Generate(std::span<const int32_t> prompt,
                          const GenerateOptions& options,
                          const std::function<void(std::string_view)>& show,
                          const StopFn& stop = nullptr);

 private:
  // Computes the tokens behind those in the cache.
  void Run(std::span<const int32_t> tokens, std::vector<float>* logits);

  const Model* model_;
  const Tokenizer* tokenizer_;
  KvCache cache_;
  std::vector<int32_t> tokens_;  // those in the cache
};

// The same for one prompt, in the model's whole context.
GenerateResult Generate(const Model& model, const Tokenizer& tokenizer,
                        std::span<const int32_t> prompt,
                        const GenerateOptions& options,
                        const std::function<void(std::string_view)>& show);

}  // namespace mobe
