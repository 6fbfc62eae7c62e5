// Generates text from a prompt.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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
  kStop,    // an end-of-text token or a stop string
  kLength,  // max_tokens, or the end of the model's context
};

const char* FinishReasonName(FinishReason reason);  // "stop", "length"

struct GenerateResult {
  int64_t prompt_tokens = 0;
  int64_t tokens = 0;  // sampled, with the one that ended the text
  FinishReason reason = FinishReason::kLength;
  double prefill_seconds = 0;  // to the first token
  double decode_seconds = 0;   // from the first token to the last
};

// Calls `show` with pieces of the text, well-formed UTF-8 each, as soon as it
// is sure that they belong to it; neither an end-of-text token nor a stop
// string is shown. Fails with kUserInput when the prompt is empty or fills the
// context.
GenerateResult Generate(const Model& model, const Tokenizer& tokenizer,
                        std::span<const int32_t> prompt,
                        const GenerateOptions& options,
                        const std::function<void(std::string_view)>& show);

}  // namespace mobe
