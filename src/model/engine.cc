#include "model/engine.h"

#include <algorithm>
#include <utility>

#include "base/parallel.h"

namespace mobe {

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

Engine::Engine(const Model& model, const EngineOptions& options)
    : model_(model),
      options_(options),
      pool_(model.NewPool(options.cache_tokens, options.sequences)) {
  if (options.sequences < 1 || options.cache_tokens < 1 ||
      options.step_tokens < options.sequences) {
    Fail(ErrorKind::kUserInput,
         "{} sequences of {} tokens, {} a step: expected 1 or more of each, "
         "and of a step as many as sequences",
         options.sequences, options.cache_tokens, options.step_tokens);
  }
}

void Engine::CheckRequest(const EngineRequest& request, int64_t limit) const {
  if (request.max_tokens < 1) {
    Fail(ErrorKind::kUserInput, "max tokens is {}, expected at least 1",
         request.max_tokens);
  }
  if (request.log_probs < 0) {
    Fail(ErrorKind::kUserInput, "{} log-probabilities, expected 0 or more",
         request.log_probs);
  }
  const int64_t tokens = std::ssize(request.prompt);
  if (tokens > limit) {
    Fail(ErrorKind::kUserInput,
         "the prompt has {} tokens, but the context is limited to {}", tokens,
         limit);
  }
  model_.CheckTokens(request.prompt);
}

int64_t Engine::Add(EngineRequest request) {
  const int64_t limit =
      std::min(options_.cache_tokens, request.sequence == nullptr
                                          ? model_.config().max_positions
                                          : request.sequence->cache.context());
  CheckRequest(request, limit);
  Sampler sampler(request.sampler);
  const int64_t prompt = std::ssize(request.prompt);
  // The last token sampled needs no place: nothing is computed from it.
  request.max_tokens = std::min(request.max_tokens, limit - prompt + 1);
  const int64_t context = request.sequence == nullptr
                              ? prompt + request.max_tokens - 1
                              : request.sequence->cache.context();
  if (request.sequence != nullptr) request.sequence->Restart(request.prompt);
  Sequence* sequence = request.sequence;
  const int64_t cached = sequence == nullptr ? 0 : sequence->cache.length();
  waiting_.push_back({next_id_, std::move(request), std::move(sampler), context,
                      nullptr, sequence, cached});
  return next_id_++;
}

// Not past the first that has to wait: a long text would wait for ever.
void Engine::Admit() {
  while (!waiting_.empty() && std::ssize(running_) < options_.sequences &&
         used_tokens_ + waiting_.front().context <= options_.cache_tokens) {
    Text text = std::move(waiting_.front());
    waiting_.pop_front();
    if (text.sequence == nullptr) {
      text.owned = std::make_unique<Sequence>(
          Sequence{KvCache(model_.config(), text.context, pool_)});
      text.sequence = text.owned.get();
      text.sequence->tokens = text.request.prompt;
      text.cached = prefixes_.Adopt(text.request.prompt, &text.owned->cache);
    }
    used_tokens_ += text.context;
    running_.push_back(std::move(text));
  }
}

// Takes pages from texts that have ended, the least recently used first. There
// are enough: those that run never need more than the pool has.
void Engine::FindPages(std::span<const BatchPart> batch) {
  int64_t pages = 0;
  for (const BatchPart& part : batch) {
    pages += part.cache->PagesFor(std::ssize(part.tokens));
  }
  while (pool_->free_pages() < pages && prefixes_.EvictOne()) {
  }
}

void Engine::Remember(const Text& text) {
  if (text.owned) prefixes_.Insert(text.owned->tokens, text.owned->cache);
}

EngineEvent Engine::Sample(std::span<const float> logits, Text* text) const {
  EngineEvent event{.id = text->id, .cached_tokens = text->cached};
  const EngineRequest& request = text->request;
  std::vector<int32_t>& tokens = text->sequence->tokens;
  try {
    event.token = text->sampler.Sample(logits, tokens);
    if (request.log_probs > 0) {
      event.log_probs = LogProbsOf(logits, event.token, request.log_probs);
    }
    tokens.push_back(event.token);
    if (std::ranges::count(request.stop_ids, event.token) > 0) {
      event.finish = FinishReason::kStop;
    } else if (std::ssize(tokens) ==
               std::ssize(request.prompt) + request.max_tokens) {
      event.finish = FinishReason::kLength;
    }
  } catch (const Error& error) {
    event.error = error;
  }
  text->over = event.finish || event.error;
  return event;
}

std::vector<EngineEvent> Engine::Step() {
  std::vector<EngineEvent> events;
  Admit();
  std::vector<BatchPart> batch;
  std::vector<Text*> sampled;  // whose logits are computed, in their order
  int64_t room = options_.step_tokens;
  // One token each comes first, then what is left of the step for prompts.
  for (const bool single : {true, false}) {
    for (Text& text : running_) {
      const std::span<const int32_t> tokens = text.sequence->Uncomputed();
      if ((tokens.size() == 1) != single) continue;
      const int64_t count = std::min(room, std::ssize(tokens));
      if (count == 0) break;
      room -= count;
      const bool whole = count == std::ssize(tokens);
      batch.push_back({tokens.first(static_cast<size_t>(count)),
                       &text.sequence->cache,
                       whole ? LogitsFor::kLast : LogitsFor::kNone});
      if (whole) sampled.push_back(&text);
    }
  }
  if (batch.empty()) return events;
  const int64_t vocab = model_.config().vocab_size;
  logits_.Resize(std::ssize(sampled) * vocab);
  FindPages(batch);
  model_.Forward(batch, logits_.data());
  // A prompt can be shared as soon as it is computed, a text when it is over.
  for (const Text* text : sampled) {
    if (text->sequence->tokens.size() == text->request.prompt.size()) {
      Remember(*text);
    }
  }

  events.resize(sampled.size());
  ParallelFor(std::ssize(sampled), [&](int64_t i) {
    const auto k = static_cast<size_t>(i);
    events[k] = Sample({logits_.data() + i * vocab, static_cast<size_t>(vocab)},
                       sampled[k]);
  });
  for (const Text& text : running_) {
    if (!text.over) continue;
    used_tokens_ -= text.context;
    Remember(text);
  }
  std::erase_if(running_, [](const Text& text) { return text.over; });
  return events;
}

bool Engine::Cancel(int64_t id) {
  const auto is_it = [id](const Text& text) { return text.id == id; };
  const auto found = std::ranges::find_if(running_, is_it);
  if (found == running_.end()) return std::erase_if(waiting_, is_it) > 0;
  used_tokens_ -= found->context;
  Remember(*found);
  running_.erase(found);
  return true;
}

}  // namespace mobe
