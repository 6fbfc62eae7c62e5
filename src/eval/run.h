// Runs one or more models over the windows of a text, in step, and hands out
// their logits piece by piece: no more than EvalOptions::logits_bytes of each
// model are ever held. Windows whose logits fit run side by side.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/progress.h"
#include "eval/text.h"
#include "eval/windows.h"
#include "model/model.h"

namespace mobe {

struct EvalOptions {
  Protocol protocol = Protocols().front();
  // Tokens of a window; 0: the protocol's, or the models' limit if lower.
  int64_t context = 0;
  // Of one model's float32 logits. They also bound what a forward pass sees at
  // once, and experts are slow on few tokens: this is 441 tokens for a
  // vocabulary of 152 thousand.
  int64_t logits_bytes = int64_t{256} << 20;
  // Those that are run, of the text's.
  int64_t first_window = 0;
  int64_t windows = INT64_MAX;
  ProgressFn progress = [](const ProgressEvent&) {};
};

// Logits that predict adjacent tokens of the text.
struct Piece {
  std::span<const int32_t> targets;  // the tokens that follow
  int64_t first = 0;   // index of the first target among all predicted tokens
  int64_t window = 0;  // index of the window that they are in
  bool ends_window = false;
  int64_t vocab_size = 0;
  std::vector<const float*> logits;  // of each model, [targets, vocab]

  // Those of a model before target i.
  std::span<const float> Row(size_t model, int64_t i) const {
    return {logits[model] + i * vocab_size, static_cast<size_t>(vocab_size)};
  }
};

struct EvalRun {
  int64_t context = 0;  // tokens of a window
  int64_t tokens = 0;   // predicted
  double seconds = 0;   // of the models and the consumer

  double TokensPerSecond() const {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  }
};

// Plans the windows. `start` learns how many tokens will be predicted, then
// `use` gets the pieces in the text's order. Fails with kUserInput when the
// text is too short, the context beyond a model's limit, or the vocabularies
// differ. Of the windows that options leave out nothing is run or counted.
EvalRun RunWindows(std::span<const Model* const> models, const EvalText& text,
                   const EvalOptions& options,
                   const std::function<void(int64_t)>& start,
                   const std::function<void(const Piece&)>& use);

// A value computed from a model's logits; fails with kCorruptFile, naming the
// model's folder, when it isn't finite, as the logits then aren't.
double Finite(const Model& model, double value);

}  // namespace mobe
