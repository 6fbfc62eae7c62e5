// Generates text from prompts.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/stop.h"
#include "model/engine.h"
#include "model/model.h"
#include "model/sampler.h"
#include "text/tokenizer.h"

namespace mobe {

// The tokens that end a text: those of the model's configs, and the
// tokenizer's.
std::vector<int32_t> StopIdsOf(const Model& model, const Tokenizer& tokenizer);

struct GenerateOptions {
  int64_t max_tokens = 128;  // at least 1
  std::vector<std::string> stop = {};
  SamplerOptions sampler = {};
  int64_t log_probs = 0;  // of this many of the likeliest tokens; 0: none
};

struct SampledToken {
  int32_t token;
  LogProbs log_probs;
};

struct GenerateResult {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of these, computed before
  int64_t tokens = 0;         // sampled, with the one that ended the text
  FinishReason reason = FinishReason::kLength;
  double prefill_seconds = 0;         // to the first token
  double decode_seconds = 0;          // from the first token to the last
  std::vector<SampledToken> sampled;  // when log-probabilities are wanted
};

// Gets pieces of a text, well-formed UTF-8 each, as soon as it is sure that
// they belong to it; neither an end-of-text token nor a stop string is shown.
using ShowFn = std::function<void(std::string_view)>;

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
        sequence_{model.NewCache(context)} {}

  int64_t context() const { return sequence_.cache.context(); }

  // `stop` is asked before each token and each part of the prompt. Fails with
  // kUserInput when the prompt is empty or exceeds the context; the session can
  // go on.
  GenerateResult Generate(std::span<const int32_t> prompt,
                          const GenerateOptions& options, const ShowFn& show,
                          const StopFn& stop = nullptr);

 private:
  const Model* model_;
  const Tokenizer* tokenizer_;
  Sequence sequence_;
};

// The same for one prompt, in the model's whole context.
GenerateResult Generate(const Model& model, const Tokenizer& tokenizer,
                        std::span<const int32_t> prompt,
                        const GenerateOptions& options, const ShowFn& show);

struct Answer {
  std::string text;
  GenerateResult result;
  std::optional<Error> error;  // that ended it
};

// Texts of many prompts, computed together. Calls `done` for each, in the order
// of the prompts, as soon as it and those before it have ended.
void GenerateAll(const Model& model, const Tokenizer& tokenizer,
                 std::span<const std::vector<int32_t>> prompts,
                 const GenerateOptions& options,
                 const std::function<void(const Answer&)>& done);

}  // namespace mobe
