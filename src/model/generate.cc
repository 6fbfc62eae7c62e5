#include "model/generate.h"

#include <algorithm>
#include <deque>
#include <map>

#include "base/progress.h"
#include "model/text_stream.h"

namespace mobe {
namespace {

// A prompt is computed in parts of this many tokens where it may be
// interrupted: large enough for the products to be efficient.
constexpr int64_t kPromptPart = 512;

EngineRequest RequestOf(const Model& model, const Tokenizer& tokenizer,
                        std::span<const int32_t> prompt,
                        const GenerateOptions& options) {
  return {.prompt = {prompt.begin(), prompt.end()},
          .max_tokens = options.max_tokens,
          .stop_ids = StopIdsOf(model, tokenizer),
          .sampler = options.sampler,
          .log_probs = options.log_probs};
}

// The text of a sequence's events, with what is told about it.
class TextOf {
 public:
  TextOf(const Tokenizer& tokenizer, const GenerateOptions& options,
         int64_t prompt_tokens, ShowFn show)
      : keeps_tokens_(options.log_probs > 0),
        show_(std::move(show)),
        stream_(tokenizer, options.stop) {
    result_.prompt_tokens = prompt_tokens;
  }

  // Whether the text goes on.
  bool Take(const EngineEvent& event) {
    result_.cached_tokens = event.cached_tokens;
    if (++result_.tokens == 1) {
      result_.prefill_seconds = MonotonicSeconds() - start_;
    }
    if (keeps_tokens_) {
      result_.sampled.push_back({event.token, event.log_probs});
    }
    Show(stream_.Take(event));
    return !stream_.over();
  }

  // `reason`: of a text that is not over.
  GenerateResult Finish(FinishReason reason = FinishReason::kLength) {
    if (result_.tokens > 0) {
      result_.decode_seconds =
          MonotonicSeconds() - start_ - result_.prefill_seconds;
    }
    Show(stream_.Finish(reason));
    result_.reason = stream_.reason();
    return std::move(result_);
  }

 private:
  void Show(const std::string& text) const {
    if (!text.empty()) show_(text);
  }

  const bool keeps_tokens_;
  const ShowFn show_;
  const double start_ = MonotonicSeconds();
  TextStream stream_;
  GenerateResult result_;
};

}  // namespace

std::vector<int32_t> StopIdsOf(const Model& model, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids = model.stop_ids();
  if (tokenizer.eos()) ids.push_back(*tokenizer.eos());
  return ids;
}

GenerateResult GenerateSession::Generate(std::span<const int32_t> prompt,
                                         const GenerateOptions& options,
                                         const ShowFn& show,
                                         const StopFn& stop) {
  // Where a step of more tokens reads no more from the disk, who stops waits.
  const bool is_cut =
      stop != nullptr && model_->step_tokens() == model_->pass_tokens();
  Engine engine(
      *model_,
      {.sequences = 1,
       .cache_tokens = context(),
       .step_tokens = is_cut ? std::min(model_->step_tokens(), kPromptPart)
                             : model_->step_tokens()});
  TextOf text(*tokenizer_, options, std::ssize(prompt), show);
  EngineRequest request = RequestOf(*model_, *tokenizer_, prompt, options);
  request.sequence = &sequence_;
  engine.Add(std::move(request));
  for (bool goes_on = true; goes_on;) {
    if (stop != nullptr && stop()) {
      return text.Finish(FinishReason::kInterrupted);
    }
    for (const EngineEvent& event : engine.Step()) {
      if (event.error) throw Error(*event.error);
      goes_on = text.Take(event);
    }
  }
  return text.Finish();
}

GenerateResult Generate(const Model& model, const Tokenizer& tokenizer,
                        std::span<const int32_t> prompt,
                        const GenerateOptions& options, const ShowFn& show) {
  const int64_t most = model.config().max_positions;
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  // No larger than what will be used: see KvCache.
  const int64_t room = std::clamp<int64_t>(
      most - prompt_tokens, 0, std::max<int64_t>(options.max_tokens - 1, 0));
  const int64_t context = std::clamp<int64_t>(prompt_tokens + room, 1, most);
  return GenerateSession(model, tokenizer, context)
      .Generate(prompt, options, show);
}

void GenerateAll(const Model& model, const Tokenizer& tokenizer,
                 std::span<const std::vector<int32_t>> prompts,
                 const GenerateOptions& options,
                 const std::function<void(const Answer&)>& done) {
  EngineOptions bounds{.step_tokens = model.step_tokens()};
  // Each prompt has the context that it would have alone.
  bounds.cache_tokens =
      model.plan().is_hard
          ? model.plan().cache_tokens
          : std::max(bounds.cache_tokens, model.config().max_positions);
  // Half of the states are kept for prompts that begin alike.
  bounds.sequences =
      std::max<int64_t>(model.TextsTogether(2 * bounds.sequences) / 2, 1);
  Engine engine(model, bounds);
  struct Slot {
    Answer answer;
    std::optional<TextOf> text;  // while it goes on
  };
  std::deque<Slot> slots(prompts.size());  // those that `done` didn't get
  size_t given = 0;                        // those that it did
  std::map<int64_t, size_t> index;         // of a prompt, by its text's id
  const auto give = [&] {
    for (; !slots.empty() && !slots.front().text; ++given) {
      done(slots.front().answer);
      slots.pop_front();
    }
  };
  for (size_t i = 0; i < prompts.size(); ++i) {
    Slot& slot = slots[i];
    try {
      slot.text.emplace(
          tokenizer, options, std::ssize(prompts[i]),
          [&slot](std::string_view piece) { slot.answer.text += piece; });
      index[engine.Add(RequestOf(model, tokenizer, prompts[i], options))] = i;
    } catch (const Error& error) {
      slot.text.reset();
      slot.answer.error = error;
    }
  }
  give();
  while (!engine.idle()) {
    for (const EngineEvent& event : engine.Step()) {
      Slot& slot = slots[index[event.id] - given];
      if (event.error) {
        slot.answer.error = event.error;
      } else if (slot.text->Take(event)) {
        continue;
      } else {
        slot.answer.result = slot.text->Finish();
        engine.Cancel(event.id);  // a stop string is not known to it
      }
      slot.text.reset();
    }
    give();
  }
}

}  // namespace mobe
