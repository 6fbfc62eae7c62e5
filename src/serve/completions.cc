// POST /v1/completions: texts that go on, in OpenAI's legacy form, which tools
// of evaluation use, as it has log-probabilities of prompts.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <ranges>
#include <utility>
#include <vector>

#include "base/unicode.h"
#include "serve/handlers.h"
#include "serve/wire.h"

namespace mobe {
namespace {

constexpr int64_t kMaxTokens = 16;  // of a request that says nothing
constexpr int64_t kMaxTexts = 256;  // of one request

struct Prompt {
  std::vector<int32_t> ids;
  std::string text;  // only with echo
};

std::vector<Prompt> ReadCompletionPrompts(const Service& service,
                                          const Json& prompt, bool echo) {
  // One prompt or several, each a text or ids.
  const bool several = prompt.is_array() && !prompt[0].is_number();
  std::vector<Prompt> prompts;
  for (const Json& one : several ? prompt : Json::array({prompt})) {
    Prompt& read = prompts.emplace_back();
    if (one.is_string()) {
      read.text = one.get<std::string>();
      read.ids = service.tokenizer().EncodePrompt(read.text);
    } else {
      read.ids = one.get<std::vector<int32_t>>();
      if (echo) read.text = service.tokenizer().Decode(read.ids);
    }
  }
  return prompts;
}

// "logprobs" of a choice: lists with an entry for each token.
class LegacyLogProbs {
 public:
  // Of `top` other tokens, beside the token itself.
  LegacyLogProbs(const Tokenizer& tokenizer, int64_t top)
      : tokenizer_(tokenizer), top_(top) {}

  // `log_probs`: null for the first token of a prompt, which nothing predicts.
  void Add(int32_t token, const LogProbs* log_probs) {
    const std::string name = TokenName(tokenizer_, token);
    json_["tokens"].push_back(name);
    json_["text_offset"].push_back(offset_);
    offset_ += CountCharacters(tokenizer_.TokenBytes(token));
    if (log_probs == nullptr) {
      json_["token_logprobs"].push_back(nullptr);
      json_["top_logprobs"].push_back(nullptr);
      return;
    }
    json_["token_logprobs"].push_back(log_probs->log_prob);
    Json top = Json::object();
    // Of tokens of one name the likeliest counts.
    for (const TokenLogProb& t : log_probs->top | std::views::take(top_)) {
      top.emplace(TokenName(tokenizer_, t.token), t.log_prob);
    }
    top.emplace(name, log_probs->log_prob);
    json_["top_logprobs"].push_back(std::move(top));
  }

  // What was added since the last call.
  Json Take() { return std::exchange(json_, Empty()); }

 private:
  static Json Empty() {
    return {{"tokens", Json::array()},
            {"token_logprobs", Json::array()},
            {"top_logprobs", Json::array()},
            {"text_offset", Json::array()}};
  }
  const Tokenizer& tokenizer_;
  const int64_t top_;
  Json json_ = Empty();
  int64_t offset_ = 0;
};

struct CompletionOptions {
  bool echo = false;
  bool log_probs = false;
  int64_t top = 0;  // of so many of the likeliest tokens
  bool stream = false;
  bool stream_usage = false;
  int64_t n = 1;
};

class CompletionForm {
 public:
  static constexpr ApiForm kForm = ApiForm::kOpenAi;

  CompletionForm(const Service& service, std::shared_ptr<Generation> generation,
                 std::vector<Prompt> prompts, const CompletionOptions& options)
      : answer_("cmpl-", service.options().name),
        generation_(std::move(generation)),
        prompts_(std::move(prompts)),
        options_(options) {
    for (size_t i = 0; i < generation_->texts(); ++i) {
      choices_.push_back({LegacyLogProbs(service.tokenizer(), options.top)});
    }
  }

  static std::string Begin() { return ""; }

  std::string Piece(const TextPiece& piece) {
    Choice& choice = choices_[piece.text];
    std::string text = piece.piece;
    if (!std::exchange(choice.begun, true) && options_.echo) {
      const Prompt& prompt = PromptOf(piece.text);
      text = prompt.text + text;
      if (options_.log_probs) {
        const auto& log_probs = piece.event->prompt_log_probs;
        for (size_t i = 0; i < prompt.ids.size(); ++i) {
          choice.log_probs.Add(prompt.ids[i],
                               i == 0 ? nullptr : &log_probs[i - 1]);
        }
      }
    }
    if (options_.log_probs && piece.event != nullptr &&
        piece.event->token >= 0) {
      choice.log_probs.Add(piece.event->token, &piece.event->log_probs);
    }
    choice.text += text;
    if (!options_.stream || (text.empty() && piece.event != nullptr)) return "";
    return SseEvent(answer_.With(
        "text_completion",
        Json::array({ChoiceJson(
            piece.text, std::move(text),
            piece.event == nullptr
                ? Json(OpenAiReason(generation_->reason(piece.text)))
                : Json())})));
  }

  std::string End() const {
    const TokenCounts counts = generation_->counts();
    return answer_.End("text_completion",
                       options_.stream_usage ? &counts : nullptr);
  }

  Json Whole() {
    Json choices = Json::array();
    for (size_t i = 0; i < choices_.size(); ++i) {
      choices.push_back(ChoiceJson(i, std::move(choices_[i].text),
                                   OpenAiReason(generation_->reason(i))));
    }
    return answer_.Whole("text_completion", std::move(choices),
                         generation_->counts());
  }

 private:
  struct Choice {
    LegacyLogProbs log_probs;
    std::string text = {};
    bool begun = false;
  };

  const Prompt& PromptOf(size_t text) const {
    return prompts_[text / static_cast<size_t>(options_.n)];
  }
  Json ChoiceJson(size_t index, std::string text, Json reason) {
    Json choice = {{"index", index},
                   {"text", std::move(text)},
                   {"logprobs", nullptr},
                   {"finish_reason", std::move(reason)}};
    if (options_.log_probs) {
      choice["logprobs"] = choices_[index].log_probs.Take();
    }
    return choice;
  }
  const OpenAiAnswer answer_;
  const std::shared_ptr<Generation> generation_;
  const std::vector<Prompt> prompts_;
  const CompletionOptions options_;
  std::vector<Choice> choices_;
};

}  // namespace

ApiReply Complete(Service* service, const ApiRequest& request) {
  const Json body = ParseBody("CompletionRequest", request.body);
  CompletionOptions options;
  options.n = body.value("n", options.n);
  if (body.value("best_of", options.n) != options.n) {
    throw ApiError(400,
                   "best_of: expected n, as no more texts are made than "
                   "are returned");
  }
  if (!body.value("suffix", std::string()).empty()) {
    throw ApiError(400,
                   "suffix: no text can be put between two others here; "
                   "expected none");
  }
  options.echo = body.value("echo", false);
  options.log_probs = body.contains("logprobs");
  options.top = body.value("logprobs", options.top);
  options.stream = body.value("stream", false);
  options.stream_usage = body.value("stream_options", Json::object())
                             .value("include_usage", false);
  TextPlan plan = ReadSampling(*service, body);
  plan.request.max_tokens = body.value("max_tokens", kMaxTokens);
  if (options.log_probs) {
    plan.request.log_probs = std::max<int64_t>(options.top, 1);
  }
  plan.request.prompt_log_probs =
      (options.echo && options.log_probs) || plan.request.max_tokens == 0;

  std::vector<Prompt> prompts =
      ReadCompletionPrompts(*service, body["prompt"], options.echo);
  if (std::ssize(prompts) * options.n > kMaxTexts) {
    throw ApiError(400, fmt::format("{} prompts with n {}: expected no more "
                                    "than {} texts together",
                                    prompts.size(), options.n, kMaxTexts));
  }
  std::vector<TextPlan> plans;
  for (const Prompt& prompt : prompts) {
    plan.request.prompt = prompt.ids;
    for (int64_t i = 0; i < options.n; ++i) plans.push_back(WithSeed(plan, i));
  }
  auto generation =
      std::make_shared<Generation>(service, request.client, std::move(plans));
  auto form = std::make_shared<CompletionForm>(*service, generation,
                                               std::move(prompts), options);
  return AnswerReply(std::move(generation), std::move(form), options.stream);
}

}  // namespace mobe
