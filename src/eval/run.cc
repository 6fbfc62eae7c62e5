#include "eval/run.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace mobe {
namespace {

int64_t Context(std::span<const Model* const> models,
                const EvalOptions& options) {
  const Model* smallest = *std::min_element(
      models.begin(), models.end(), [](const Model* a, const Model* b) {
        return a->config().max_positions < b->config().max_positions;
      });
  const int64_t limit = smallest->config().max_positions;
  if (options.context > limit) {
    Fail(ErrorKind::kUserInput, "{}: a context of {}, but the model's is {}",
         smallest->folder().string(), options.context, limit);
  }
  if (options.context > 0) return options.context;
  return std::min(options.protocol.context, limit);
}

void CheckVocabularies(std::span<const Model* const> models) {
  const Model& base = *models.front();
  for (const Model* other : models) {
    if (other->config().vocab_size == base.config().vocab_size) continue;
    Fail(ErrorKind::kUserInput,
         "{} has a vocabulary of {} tokens, {} of {}; only models with one "
         "vocabulary can be compared",
         base.folder().string(), base.config().vocab_size,
         other->folder().string(), other->config().vocab_size);
  }
}

// The tokens as the models read them.
std::vector<int32_t> WithBos(const EvalText& text, const EvalOptions& options,
                             int64_t context) {
  std::vector<int32_t> tokens = text.tokens;
  if (!options.protocol.starts_at_bos || !text.bos) return tokens;
  tokens.insert(tokens.begin(), *text.bos);
  // A window's first token is never predicted, so nothing else is lost.
  for (size_t i = 0; i < tokens.size(); i += static_cast<size_t>(context)) {
    tokens[i] = *text.bos;
  }
  return tokens;
}

std::vector<Window> PlanWindows(const EvalText& text,
                                const EvalOptions& options, int64_t context,
                                int64_t tokens) {
  std::vector<Window> windows = SplitWindows(options.protocol, context, tokens);
  if (windows.empty()) {
    Fail(ErrorKind::kUserInput,
         "{}: {} token{}, too few: protocol {} with a context of {} "
         "needs {} or more",
         text.source, tokens, tokens == 1 ? "" : "s", options.protocol.name,
         context, options.protocol.whole_only ? context : 2);
  }
  const auto begin =
      windows.begin() + std::min(options.first_window, std::ssize(windows));
  const int64_t count = std::min(options.windows, windows.end() - begin);
  return {begin, begin + count};
}

// Tokens of a window that pass through a model together.
struct Span {
  int64_t begin, end;
  bool used;  // their logits are
};

// Cuts a window into spans of at most `rows` tokens. Each token's logits
// predict the next, so the last is not read.
std::vector<Span> SpansOf(const Window& window, int64_t rows) {
  const int64_t last = window.end - 1;
  const int64_t first_used = window.first - 1;
  std::vector<Span> spans;
  for (int64_t begin = window.begin, end = 0; begin < last; begin = end) {
    const bool used = begin >= first_used;
    end = std::min(begin + rows, used ? last : first_used);
    spans.push_back({begin, end, used});
  }
  return spans;
}

// How many windows of `context` tokens run side by side: as many as a step
// takes whole and whose logits, all of them, are `rows` at most. Of each
// there are then as many spans, and one of them has the logits.
int64_t WindowsTogether(const Protocol& protocol, int64_t context, int64_t rows,
                        int64_t step_tokens) {
  const int64_t used = context - (protocol.second_half ? context / 2 : 0);
  return std::max<int64_t>(1, std::min(rows / used, step_tokens / context));
}

}  // namespace

EvalRun RunWindows(std::span<const Model* const> models, const EvalText& text,
                   const EvalOptions& options,
                   const std::function<void(int64_t)>& start,
                   const std::function<void(const Piece&)>& use) {
  CheckVocabularies(models);
  const int64_t context = Context(models, options);
  const std::vector<int32_t> tokens = WithBos(text, options, context);
  const std::vector<Window> windows =
      PlanWindows(text, options, context, static_cast<int64_t>(tokens.size()));
  const int64_t predicted = PredictedTokens(windows);
  start(predicted);
  if (windows.empty()) return {context, 0, 0};

  const int64_t vocab = models.front()->config().vocab_size;
  const int64_t row_bytes = vocab * static_cast<int64_t>(sizeof(float));
  const int64_t rows = std::max<int64_t>(options.logits_bytes / row_bytes, 1);
  int64_t step_tokens = models.front()->step_tokens();
  for (const Model* model : models) {  // of which caches have room
    step_tokens = std::min(
        {step_tokens, model->step_tokens(), model->plan().cache_tokens});
  }
  int64_t together =
      std::min(WindowsTogether(options.protocol, context, rows, step_tokens),
               std::ssize(windows));
  for (const Model* model : models) together = model->TextsTogether(together);
  std::vector<std::vector<KvCache>> caches;  // of each model and window
  std::vector<Buffer<float>> logits;         // of each model
  for (const Model* model : models) {
    std::vector<KvCache>& of_model = caches.emplace_back();
    for (int64_t i = 0; i < together; ++i) {
      of_model.push_back(model->NewCache(context));
    }
    logits.emplace_back(std::min(rows, together * context) * vocab);
  }

  const double start_seconds = MonotonicSeconds();
  int64_t done = 0;
  for (size_t first = 0; first < windows.size();
       first += static_cast<size_t>(together)) {
    std::vector<std::vector<Span>> spans;  // of each window: as many, see above
    for (size_t i = first; i < windows.size() && std::ssize(spans) < together;
         ++i) {
      spans.push_back(SpansOf(windows[i], rows));
    }
    for (std::vector<KvCache>& of_model : caches) {
      for (KvCache& cache : of_model) cache.Truncate(0);
    }
    for (size_t step = 0; step < spans.front().size(); ++step) {
      Piece piece{{}, done, 0, false, vocab, {}};
      for (size_t m = 0; m < models.size(); ++m) {
        std::vector<BatchPart> batch;
        for (size_t i = 0; i < spans.size(); ++i) {
          const Span& span = spans[i][step];
          batch.push_back(
              {{tokens.data() + span.begin, tokens.data() + span.end},
               &caches[m][i],
               span.used ? LogitsFor::kAll : LogitsFor::kNone});
        }
        models[m]->Forward(batch, logits[m].data());
        piece.logits.push_back(logits[m].data());
      }
      for (size_t i = 0; i < spans.size(); ++i) {
        const auto [begin, end, used] = spans[i][step];
        if (!used) continue;
        piece.window = options.first_window + static_cast<int64_t>(first + i);
        piece.ends_window = end == windows[first + i].end - 1;
        piece.targets = {tokens.data() + begin + 1, tokens.data() + end + 1};
        use(piece);
        piece.first += end - begin;
        for (const float*& of_model : piece.logits) {
          of_model += (end - begin) * vocab;
        }
      }
      done = piece.first;
      const int64_t end = spans.back()[step].end;
      options.progress({static_cast<double>(end) /
                            static_cast<double>(windows.back().end - 1),
                        fmt::format("token {} of {}", end, tokens.size())});
    }
  }
  return {context, predicted, MonotonicSeconds() - start_seconds};
}

double Finite(const Model& model, double value) {
  if (!std::isfinite(value)) {
    Fail(ErrorKind::kCorruptFile,
         "{}: the logits are not finite; the weights are damaged, or too large "
         "to be run in this dtype",
         model.folder().string());
  }
  return value;
}

}  // namespace mobe
