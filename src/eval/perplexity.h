// How well a model predicts a text.
#pragma once

#include "eval/run.h"
#include "eval/statistics.h"

namespace mobe {

struct PerplexityReport {
  // exp of the mean of -log p over the predicted tokens.
  Estimate perplexity;
  EvalRun run;
};

// Fails as RunWindows and Model::Forward do, and with kCorruptFile when the
// logits aren't finite. The result does not depend on the number of threads.
PerplexityReport Perplexity(const Model& model, const EvalText& text,
                            const EvalOptions& options);

}  // namespace mobe
