#include "model/generate.h"

#include <algorithm>

#include "base/progress.h"
#include "model/stop_strings.h"
#include "text/stream_decoder.h"

namespace mobe {

namespace {

// A prompt is computed in parts of this many tokens where it may be
// interrupted: large enough for the products to be efficient.
constexpr size_t kPromptPart = 512;

}  // namespace

const char* FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kInterrupted:
      return "interrupted";
  }
  return "";
}

void GenerateSession::Run(std::span<const int32_t> tokens,
                          std::vector<float>* logits) {
  model_->Forward(tokens, &cache_, LogitsFor::kLast, logits->data());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

GenerateResult GenerateSession::Generate(
    std::span<const int32_t> prompt, const GenerateOptions& options,
    const std::function<void(std::string_view)>& show, const StopFn& stop) {
  GenerateResult result;
  result.prompt_tokens = static_cast<int64_t>(prompt.size());
  if (options.max_tokens < 1) {
    Fail(ErrorKind::kUserInput, "max tokens is {}, expected at least 1",
         options.max_tokens);
  }
  if (result.prompt_tokens > context()) {
    Fail(ErrorKind::kUserInput,
         "the prompt has {} tokens, but the context is limited to {}",
         result.prompt_tokens, context());
  }
  Sampler sampler(options.sampler);
  StopStrings stops(options.stop);
  StreamDecoder decoder(*tokenizer_, /*skip_special=*/true);
  const auto emit = [&](const std::string& text) {
    if (!text.empty()) show(text);
  };
  const auto interrupted = [&] { return stop != nullptr && stop(); };
  // The last token sampled needs no place: nothing is computed from it.
  const int64_t max_tokens =
      std::min(options.max_tokens, context() - result.prompt_tokens + 1);

  // The logits of the prompt's last token are wanted, whatever is known.
  const size_t known =
      std::min(static_cast<size_t>(std::ranges::mismatch(prompt, tokens_).in1 -
                                   prompt.begin()),
               std::max<size_t>(prompt.size(), 1) - 1);
  tokens_.resize(known);
  result.cached_tokens = static_cast<int64_t>(known);
  cache_.Truncate(result.cached_tokens);

  std::vector<float> logits(static_cast<size_t>(model_->config().vocab_size));
  std::vector<int32_t> seen(prompt.begin(), prompt.end());
  const double start = MonotonicSeconds();
  std::span<const int32_t> rest = prompt.subspan(known);
  do {
    if (interrupted()) {
      result.reason = FinishReason::kInterrupted;
      return result;
    }
    const size_t part =
        stop == nullptr ? rest.size() : std::min(rest.size(), kPromptPart);
    Run(rest.first(part), &logits);
    rest = rest.subspan(part);
  } while (!rest.empty());
  result.prefill_seconds = MonotonicSeconds() - start;
  for (;;) {
    const int32_t token = sampler.Sample(logits, seen);
    ++result.tokens;
    const bool ended = token == tokenizer_->eos() ||
                       std::ranges::binary_search(model_->stop_ids(), token);
    if (!ended) emit(stops.Push(decoder.Push(token)));
    if (ended || stops.stopped()) {
      result.reason = FinishReason::kStop;
      break;
    }
    if (result.tokens == max_tokens) break;
    if (interrupted()) {
      result.reason = FinishReason::kInterrupted;
      break;
    }
    seen.push_back(token);
    Run({&token, 1}, &logits);
  }
  result.decode_seconds = MonotonicSeconds() - start - result.prefill_seconds;
  // The last bytes may complete a stop string; if not, what was held is text.
  emit(stops.Push(decoder.Finish()));
  if (stops.stopped()) result.reason = FinishReason::kStop;
  emit(stops.Finish());
  return result;
}

GenerateResult Generate(const Model& model, const Tokenizer& tokenizer,
                        std::span<const int32_t> prompt,
                        const GenerateOptions& options,
                        const std::function<void(std::string_view)>& show) {
  const int64_t most = model.config().max_positions;
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  // No larger than what will be used: see KvCache.
  const int64_t room = std::clamp<int64_t>(
      most - prompt_tokens, 0, std::max<int64_t>(options.max_tokens - 1, 0));
  const int64_t context = std::clamp<int64_t>(prompt_tokens + room, 1, most);
  return GenerateSession(model, tokenizer, context)
      .Generate(prompt, options, show);
}

}  // namespace mobe
