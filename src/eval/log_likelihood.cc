#include "eval/log_likelihood.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "base/parallel.h"
#include "eval/python_text.h"
#include "eval/run.h"
#include "eval/statistics.h"

namespace mobe {
namespace {

// Bounds of what is computed together: logits, of which a row of a vocabulary
// of 152 thousand has 600 kB, and caches, of which each text that goes on has a
// page of its own.
constexpr int64_t kLogitsBytes = int64_t{256} << 20;
constexpr int64_t kTexts = 64;

// Continuations [first, last) of the same context.
struct SameContext {
  size_t first;
  size_t last;
  std::span<const int32_t> context;  // as much of it as there is room for
  std::vector<KvCache> cache = {};   // one, of the context
};

std::span<const int32_t> ContextWithin(const Model& model,
                                       const Continuation& continuation) {
  // The last token is predicted, not read.
  const int64_t room =
      model.config().max_positions + 1 - std::ssize(continuation.tokens);
  if (room < 1) {
    Fail(ErrorKind::kUserInput,
         "an answer has {} tokens, but the model's context is {}",
         continuation.tokens.size(), model.config().max_positions);
  }
  const std::span<const int32_t> context = continuation.context;
  return context.last(std::min(context.size(), static_cast<size_t>(room)));
}

std::vector<SameContext> GroupByContext(
    const Model& model, std::span<const Continuation> continuations) {
  std::vector<SameContext> groups;
  for (size_t i = 0; i < continuations.size(); ++i) {
    const auto context = ContextWithin(model, continuations[i]);
    if (!groups.empty() && std::ranges::equal(groups.back().context, context)) {
      groups.back().last = i + 1;
    } else {
      groups.push_back({i, i + 1, context});
    }
  }
  return groups;
}

class LikelihoodRun {
 public:
  LikelihoodRun(const Model& model, std::span<const Continuation> continuations)
      : model_(model),
        continuations_(continuations),
        vocab_(model.config().vocab_size),
        rows_(std::clamp<int64_t>(
            kLogitsBytes / (vocab_ * static_cast<int64_t>(sizeof(float))), 1,
            model.pass_tokens())),
        // Contexts, and as many texts that go on from them.
        texts_(std::max<int64_t>(model.TextsTogether(2 * kTexts) / 2, 1)),
        sums_(continuations.size()) {}

  std::vector<double> Run() {
    std::vector<SameContext> groups = GroupByContext(model_, continuations_);
    const int64_t most =
        std::max(model_.plan().cache_tokens, model_.pass_tokens());
    for (std::span<SameContext> rest = groups; !rest.empty();) {
      size_t count = 0;
      int64_t tokens = 0;
      while (count < rest.size() && std::cmp_less(count, texts_) &&
             std::cmp_less(count, rows_)) {
        tokens += std::ssize(rest[count].context);
        if (count > 0 && tokens > most) break;
        ++count;
      }
      RunGroups(rest.first(count));
      rest = rest.subspan(count);
    }
    return std::move(sums_);
  }

 private:
  // Computes the contexts, whose last logits are of all first tokens, then the
  // other tokens.
  void RunGroups(std::span<SameContext> groups) {
    int64_t tokens = 0;
    int64_t longest = 0;
    for (const SameContext& group : groups) {
      tokens += std::ssize(group.context);
      for (size_t i = group.first; i < group.last; ++i) {
        longest = std::max(longest, std::ssize(continuations_[i].tokens));
      }
    }
    // A text that goes on copies the page that its context ends in.
    const auto pool = model_.NewPool(tokens + texts_ * longest,
                                     std::ssize(groups) + 2 * texts_);
    std::vector<BatchPart> batch;
    for (SameContext& group : groups) {
      group.cache.emplace_back(model_.config(),
                               std::min(std::ssize(group.context) + longest,
                                        model_.config().max_positions),
                               pool);
      batch.push_back({group.context, &group.cache.front(), LogitsFor::kLast});
    }
    const Buffer<float>& logits = Forward(batch, std::ssize(groups));
    for (size_t row = 0; row < groups.size(); ++row) {
      const std::span<const float> of_row(
          logits.data() + static_cast<int64_t>(row) * vocab_,
          static_cast<size_t>(vocab_));
      const Softmax softmax = SoftmaxOf(of_row);
      for (size_t i = groups[row].first; i < groups[row].last; ++i) {
        if (!continuations_[i].tokens.empty()) {
          Add(i, softmax, of_row, continuations_[i].tokens.front());
        }
      }
    }
    for (const SameContext& group : groups) {
      for (size_t i = group.first; i < group.last; ++i) {
        if (continuations_[i].tokens.size() > 1) AddLater(i, group);
      }
    }
    RunLater();
    for (SameContext& group : groups) group.cache.clear();
  }

  // What is to be read of a continuation after its context.
  struct Later {
    size_t index;
    KvCache cache;
  };

  void AddLater(size_t index, const SameContext& group) {
    const int64_t reads = std::ssize(continuations_[index].tokens) - 1;
    if (std::ssize(later_) == texts_ || later_rows_ + reads > rows_) RunLater();
    later_.push_back(
        {index, group.cache.front().Fork(std::ssize(group.context))});
    later_rows_ += reads;
  }

  void RunLater() {
    // More than one piece only of a continuation that exceeds rows_ alone.
    for (int64_t begin = 0; begin < later_rows_; begin += rows_) {
      std::vector<BatchPart> batch;
      int64_t rows = 0;
      for (Later& later : later_) {
        const std::span<const int32_t> reads =
            std::span(continuations_[later.index].tokens)
                .first(continuations_[later.index].tokens.size() - 1);
        const auto piece =
            reads.subspan(static_cast<size_t>(begin),
                          std::min(static_cast<size_t>(rows_),
                                   reads.size() - static_cast<size_t>(begin)));
        batch.push_back({piece, &later.cache, LogitsFor::kAll});
        rows += std::ssize(piece);
      }
      const Buffer<float>& logits = Forward(batch, rows);
      std::vector<const float*> starts;
      const float* start = logits.data();
      for (const BatchPart& part : batch) {
        starts.push_back(start);
        start += std::ssize(part.tokens) * vocab_;
      }
      ParallelFor(std::ssize(later_), [&](int64_t n) {
        const auto i = static_cast<size_t>(n);
        const Continuation& continuation = continuations_[later_[i].index];
        for (size_t t = 0; t < batch[i].tokens.size(); ++t) {
          const std::span<const float> row(
              starts[i] + static_cast<int64_t>(t) * vocab_,
              static_cast<size_t>(vocab_));
          Add(later_[i].index, SoftmaxOf(row), row,
              continuation.tokens[static_cast<size_t>(begin) + t + 1]);
        }
      });
    }
    later_.clear();
    later_rows_ = 0;
  }

  void Add(size_t index, const Softmax& softmax, std::span<const float> row,
           int32_t token) {
    sums_[index] +=
        Finite(model_, row[static_cast<size_t>(token)] - softmax.log_sum);
  }

  const Buffer<float>& Forward(std::span<const BatchPart> batch, int64_t rows) {
    logits_.Resize(rows * vocab_);
    model_.Forward(batch, logits_.data());
    return logits_;
  }

  const Model& model_;
  const std::span<const Continuation> continuations_;
  const int64_t vocab_;
  const int64_t rows_;  // of logits
  const int64_t texts_;
  std::vector<double> sums_;
  std::vector<Later> later_;
  int64_t later_rows_ = 0;
  Buffer<float> logits_;
};

}  // namespace

Continuation EncodeContinuation(const Tokenizer& tokenizer,
                                const std::string& context,
                                const std::string& text) {
  const std::string stripped = PythonRStrip(context);
  const std::string whole = context + text;
  std::vector<int32_t> before = tokenizer.affixes().before;
  if (context.empty()) {
    // As lm-eval's prefix_token_id.
    if (before.empty() && tokenizer.eos()) before = {*tokenizer.eos()};
    return {before, tokenizer.Encode(text)};
  }
  Continuation continuation{before};
  std::ranges::copy(tokenizer.Encode(stripped),
                    std::back_inserter(continuation.context));
  const size_t length = continuation.context.size() - before.size();
  std::vector<int32_t> tokens = tokenizer.Encode(whole);
  tokens.erase(tokens.begin(), tokens.begin() + static_cast<int64_t>(std::min(
                                                    length, tokens.size())));
  continuation.tokens = std::move(tokens);
  return continuation;
}

std::vector<double> LogLikelihoods(
    const Model& model, std::span<const Continuation> continuations) {
  return LikelihoodRun(model, continuations).Run();
}

}  // namespace mobe
