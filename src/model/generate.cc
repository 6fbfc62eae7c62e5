#include "model/generate.h"

#include <algorithm>

#include "base/progress.h"
#include "model/stop_strings.h"
#include "text/stream_decoder.h"

namespace mobe {

const char* FinishReasonName(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : "length";
}

GenerateResult Generate(const Model& model, const Tokenizer& tokenizer,
                        std::span<const int32_t> prompt,
                        const GenerateOptions& options,
                        const std::function<void(std::string_view)>& show) {
  const ModelConfig& config = model.config();
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  if (options.max_tokens < 1) {
    Fail(ErrorKind::kUserInput, "max tokens is {}, expected at least 1",
         options.max_tokens);
  }
  if (prompt_tokens > config.max_positions) {
    Fail(ErrorKind::kUserInput,
         "the prompt has {} tokens, but the model's context is limited to {}",
         prompt_tokens, config.max_positions);
  }
  Sampler sampler(options.sampler);
  StopStrings stops(options.stop);
  StreamDecoder decoder(tokenizer, /*skip_special=*/true);
  const auto emit = [&](const std::string& text) {
    if (!text.empty()) show(text);
  };
  // The last token sampled needs no place: nothing is computed from it.
  const int64_t room = config.max_positions - prompt_tokens + 1;
  const int64_t max_tokens = std::min(options.max_tokens, room);
  KvCache cache(config, std::max<int64_t>(1, prompt_tokens + max_tokens - 1));
  std::vector<float> logits(static_cast<size_t>(config.vocab_size));
  std::vector<int32_t> seen(prompt.begin(), prompt.end());

  GenerateResult result;
  result.prompt_tokens = prompt_tokens;
  const double start = MonotonicSeconds();
  model.Forward(prompt, &cache, LogitsFor::kLast, logits.data());
  result.prefill_seconds = MonotonicSeconds() - start;
  for (;;) {
    const int32_t token = sampler.Sample(logits, seen);
    ++result.tokens;
    const bool ended = std::binary_search(model.stop_ids().begin(),
                                          model.stop_ids().end(), token);
    if (!ended) emit(stops.Push(decoder.Push(token)));
    if (ended || stops.stopped()) {
      result.reason = FinishReason::kStop;
      break;
    }
    if (result.tokens == max_tokens) break;
    seen.push_back(token);
    model.Forward({&token, 1}, &cache, LogitsFor::kLast, logits.data());
  }
  result.decode_seconds = MonotonicSeconds() - start - result.prefill_seconds;
  // The last bytes may complete a stop string; if not, what was held is text.
  emit(stops.Push(decoder.Finish()));
  if (stops.stopped()) result.reason = FinishReason::kStop;
  emit(stops.Finish());
  return result;
}

}  // namespace mobe
