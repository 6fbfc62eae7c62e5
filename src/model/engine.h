// Continues many texts together: continuous batching (Orca: Yu et al., OSDI
// 2022) with prompts computed in chunks beside the others' tokens
// (Sarathi-Serve: Agrawal et al. 2024, arXiv 2403.02310).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "model/log_probs.h"
#include "model/model.h"
#include "model/prefix_cache.h"
#include "model/sampler.h"
#include "model/sequence.h"

namespace mobe {

struct EngineOptions {
  // Texts that run together. The others wait, and begin in the order in which
  // they came.
  int64_t sequences = 16;
  // Bound of the contexts of those that run, together, and so of their caches'
  // memory; of the context of one, too.
  int64_t cache_tokens = 65536;
  // Tokens of a step: one of each text that is past its prompt, and what is
  // left for prompts. At least `sequences`, so that something is. More is
  // faster, and lets the others wait longer for their next token.
  int64_t step_tokens = 512;
};

struct EngineRequest {
  std::vector<int32_t> prompt;
  // 0: only the prompt is computed, for its log-probabilities.
  int64_t max_tokens = 128;
  std::vector<int32_t> stop_ids = {};  // end the text
  SamplerOptions sampler = {};         // of this text alone
  int64_t log_probs = 0;  // of this many of the likeliest tokens; 0: none
  // Those of the prompt's tokens, too: all of it is computed, none is shared.
  // Of at least 1 token where log_probs is 0.
  bool prompt_log_probs = false;
  // Where the text is kept: the caller's, and this text's alone until it has
  // ended. What the prompt has in common with it is not computed again. Null:
  // the engine makes one, and what the prompt has in common with the beginning
  // of any text of the engine's, in whole pages that are still there, is
  // shared; with delta nets, in pages of its prompt alone, from which states
  // are kept.
  Sequence* sequence = nullptr;
};

enum class FinishReason {
  kStop,         // an end-of-text token or a stop string
  kLength,       // max_tokens, or the end of the context
  kInterrupted,  // from outside
};

// "stop", "length", "interrupted"
const char* FinishReasonName(FinishReason reason);

// A text's next token, or the error that ended it.
struct EngineEvent {
  int64_t id = 0;
  int32_t token = -1;         // -1: none, max_tokens is 0
  int64_t cached_tokens = 0;  // of the prompt, that were not computed again
  LogProbs log_probs = {};    // when they are wanted
  // With the first token, when they are wanted: of all prompt tokens but the
  // first, which nothing predicts.
  std::vector<LogProbs> prompt_log_probs = {};
  std::optional<FinishReason> finish = {};  // the token was the last
  std::optional<Error> error = {};
};

// What a text becomes depends neither on the others nor on when it came, as
// Model::Forward's logits don't. Where it shares the beginning of another, that
// may have been decoded there, of which prefill differs by rounding, and latent
// attention may compute the rest in its other form: two tokens that are equally
// likely but for that may then be exchanged.
class Engine {
 public:
  // The model must outlive the engine. Fails with kUserInput for options out of
  // their range.
  Engine(const Model& model, const EngineOptions& options);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Takes a text in and returns its id; ids ascend. Where the context does not
  // hold prompt and max_tokens, the text ends with it. Fails with kUserInput
  // for a prompt that is empty, exceeds the context or has an id out of the
  // vocabulary, and for options out of their range; the others go on.
  int64_t Add(EngineRequest request);

  // Fails where Add does, but for a sequence of the caller's. Any thread's.
  void Check(const EngineRequest& request) const;

  // Passes of texts that go on, and passes of prompts, for each phase has an
  // arithmetic of its own: computes the next token of each text that runs and,
  // of prompts, as much as step_tokens leaves room for. Returns the tokens. An
  // error of one text ends that one; of the rest, Step fails as Forward does.
  std::vector<EngineEvent> Step();

  // Ends a text without an event. False: it had ended.
  bool Cancel(int64_t id);

  // Pages of the cache in use, those of texts that have ended included.
  int64_t pages() const { return pool_->used_pages(); }
  bool idle() const { return running_.empty() && waiting_.empty(); }

 private:
  struct Text {
    int64_t id;
    EngineRequest request;
    Sampler sampler;
    int64_t context;
    std::unique_ptr<Sequence> owned;
    Sequence* sequence;  // null while it waits without one
    int64_t cached = 0;  // of its prompt's tokens
    std::vector<LogProbs> prompt_log_probs = {};
    bool over = false;
  };

  // Logits of the token behind `position`: those of a text's last token are
  // sampled from, and become an event.
  struct Row {
    Text* text;
    int64_t position;
    int64_t event;  // -1: log-probabilities of a prompt
  };
  struct StepPlan {
    std::vector<BatchPart> batch;
    std::vector<Row> rows;                 // in the order of the logits
    std::vector<const Text*> at_page_end;  // then, of their prompt: with states
    int64_t events = 0;
  };

  StepPlan PlanStep();
  int64_t LimitOf(const EngineRequest& request) const;
  int64_t StatefulTokens(const Text& text) const;
  void Admit();
  void FindPages(std::span<const BatchPart> batch);
  void Remember(const Text& text);
  EngineEvent Sample(std::span<const float> logits, Text* text) const;

  const Model& model_;
  const EngineOptions options_;
  // Of the texts without a sequence of their own; and what is kept of them.
  const std::shared_ptr<CachePool> pool_;
  PrefixCache prefixes_;
  int64_t next_id_ = 0;
  int64_t used_tokens_ = 0;  // contexts of those that run
  std::deque<Text> waiting_;
  std::deque<Text> running_;  // in the order in which they came
  Buffer<float> logits_;
};

}  // namespace mobe
