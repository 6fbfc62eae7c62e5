#include "model/engine.h"

#include <algorithm>
#include <utility>

#include "base/parallel.h"

namespace mobe {
namespace {

// Of logits that are held at once: a prompt whose tokens' log-probabilities are
// wanted is computed in parts that have no more (110 tokens of a vocabulary of
// 152 thousand).
constexpr int64_t kLogitBytes = int64_t{64} << 20;

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

Engine::Engine(const Model& model, const EngineOptions& options)
    : model_(model),
      options_(options),
      pool_(model.NewPool(options.cache_tokens, options.sequences)),
      prefixes_(options.sequences) {
  if (options.sequences < 1 || options.cache_tokens < 1 ||
      options.step_tokens < options.sequences) {
    Fail(ErrorKind::kUserInput,
         "{} sequences of {} tokens, {} a step: expected 1 or more of each, "
         "and of a step as many as sequences",
         options.sequences, options.cache_tokens, options.step_tokens);
  }
}

// Tokens that a text may have, its prompt included.
int64_t Engine::LimitOf(const EngineRequest& request) const {
  return std::min(options_.cache_tokens,
                  request.sequence == nullptr
                      ? model_.config().max_positions
                      : request.sequence->cache.context());
}

void Engine::Check(const EngineRequest& request) const {
  const int64_t least = request.prompt_log_probs ? 0 : 1;
  if (request.max_tokens < least) {
    Fail(ErrorKind::kUserInput, "max tokens is {}, expected at least {}",
         request.max_tokens, least);
  }
  if (request.log_probs < 0) {
    Fail(ErrorKind::kUserInput, "{} log-probabilities, expected 0 or more",
         request.log_probs);
  }
  const int64_t limit = LimitOf(request);
  const int64_t tokens = std::ssize(request.prompt);
  if (tokens > limit) {
    Fail(ErrorKind::kUserInput,
         "the prompt has {} tokens, but the context is limited to {}", tokens,
         limit);
  }
  model_.CheckTokens(request.prompt);
  const Sampler sampler(request.sampler);
}

int64_t Engine::Add(EngineRequest request) {
  Check(request);
  const int64_t limit = LimitOf(request);
  Sampler sampler(request.sampler);
  const int64_t prompt = std::ssize(request.prompt);
  // The last token sampled needs no place: nothing is computed from it.
  request.max_tokens = std::min(request.max_tokens, limit - prompt + 1);
  const int64_t context =
      request.sequence == nullptr
          ? prompt + std::max<int64_t>(request.max_tokens, 1) - 1
          : request.sequence->cache.context();
  if (request.sequence != nullptr) {
    request.sequence->Restart(request.prompt);
    if (request.prompt_log_probs) request.sequence->cache.Truncate(0);
  }
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
      if (!text.request.prompt_log_probs) {
        text.cached = prefixes_.Adopt(text.request.prompt, &text.owned->cache);
      }
    }
    if (text.request.prompt_log_probs) {
      text.prompt_log_probs.resize(text.request.prompt.size() - 1);
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
  try {
    if (text.owned) prefixes_.Insert(text.owned->tokens, text.owned->cache);
  } catch (const std::bad_alloc&) {
    // What begins alike will be computed again.
  }
}

EngineEvent Engine::Sample(std::span<const float> logits, Text* text) const {
  EngineEvent event{.id = text->id, .cached_tokens = text->cached};
  const EngineRequest& request = text->request;
  std::vector<int32_t>& tokens = text->sequence->tokens;
  try {
    if (request.max_tokens > 0) {
      event.token =
          text->sampler.Sample(logits, tokens, std::ssize(request.prompt));
      if (request.log_probs > 0) {
        event.log_probs = LogProbsOf(logits, event.token, request.log_probs);
      }
      tokens.push_back(event.token);
    }
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

// Tokens of the prompt, in whole pages, behind which states are to be kept, for
// others that begin alike; 0: there are none, or nobody else sees them.
int64_t Engine::StatefulTokens(const Text& text) const {
  if (!model_.config().HasDeltaNets() || !text.owned) return 0;
  // The last token is computed in any case: its logits are wanted.
  return (std::ssize(text.request.prompt) - 1) / kPageTokens * kPageTokens;
}

// A token of each text that is past its prompt comes first, then what is left
// of the step for prompts.
Engine::StepPlan Engine::PlanStep() {
  StepPlan plan;
  int64_t room = options_.step_tokens;
  int64_t rows =
      kLogitBytes / (model_.config().vocab_size * int64_t{sizeof(float)});
  for (const Phase phase : {Phase::kDecode, Phase::kPrefill}) {
    for (Text& text : running_) {
      const std::span<const int32_t> tokens = text.sequence->Uncomputed();
      const int64_t length = text.sequence->cache.length();
      const bool decodes = length >= std::ssize(text.request.prompt);
      if (decodes != (phase == Phase::kDecode)) continue;
      int64_t count = std::min(room, std::ssize(tokens));
      if (count == 0) break;
      const int64_t to_page_end = StatefulTokens(text) - length;
      if (to_page_end > 0) count = std::min(count, to_page_end);
      const bool all = text.request.prompt_log_probs && !decodes;
      if (all) count = std::min(count, std::max<int64_t>(rows, 1));
      if (count == to_page_end) plan.at_page_end.push_back(&text);
      room -= count;
      const bool whole = count == std::ssize(tokens);
      plan.batch.push_back({tokens.first(static_cast<size_t>(count)),
                            &text.sequence->cache,
                            all     ? LogitsFor::kAll
                            : whole ? LogitsFor::kLast
                                    : LogitsFor::kNone,
                            phase, decodes ? 0 : length - text.cached,
                            std::ssize(tokens) - count});
      const int64_t end = length + count;
      const int64_t wanted = all ? count : whole ? 1 : 0;
      for (int64_t i = end - wanted; i < end; ++i) {
        const bool last = i + 1 == std::ssize(text.sequence->tokens);
        plan.rows.push_back({&text, i, last ? plan.events++ : -1});
      }
      rows -= wanted;
    }
  }
  return plan;
}

std::vector<EngineEvent> Engine::Step() {
  Admit();
  const StepPlan plan = PlanStep();
  if (plan.batch.empty()) return {};
  const int64_t vocab = model_.config().vocab_size;
  logits_.Resize(std::ssize(plan.rows) * vocab);
  FindPages(plan.batch);
  model_.Forward(plan.batch, logits_.data());
  for (const Text* text : plan.at_page_end) Remember(*text);
  // A prompt can be shared as soon as it is computed, a text when it is over.
  for (const Row& row : plan.rows) {
    if (row.position + 1 == std::ssize(row.text->request.prompt)) {
      Remember(*row.text);
    }
  }

  std::vector<EngineEvent> events(static_cast<size_t>(plan.events));
  ParallelFor(std::ssize(plan.rows), [&](int64_t i) {
    const Row& row = plan.rows[static_cast<size_t>(i)];
    const std::span<const float> logits(logits_.data() + i * vocab,
                                        static_cast<size_t>(vocab));
    if (row.event >= 0) {
      events[static_cast<size_t>(row.event)] = Sample(logits, row.text);
      return;
    }
    const EngineRequest& request = row.text->request;
    const auto p = static_cast<size_t>(row.position);
    row.text->prompt_log_probs[p] =
        LogProbsOf(logits, request.prompt[p + 1], request.log_probs);
  });
  for (const Row& row : plan.rows) {
    if (row.event < 0) continue;
    events[static_cast<size_t>(row.event)].prompt_log_probs =
        std::exchange(row.text->prompt_log_probs, {});
  }
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
