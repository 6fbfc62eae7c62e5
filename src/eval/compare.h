// How far one model's predictions are from another's.
#pragma once

#include "eval/run.h"
#include "eval/statistics.h"

namespace mobe {

struct CompareReport {
  // KL(base || other) of the predictions, in nats, over the predicted tokens.
  Estimate kld;
  double kld_p50 = 0, kld_p90 = 0, kld_p95 = 0, kld_p99 = 0, kld_max = 0;
  // Share of tokens where both models find the same token likeliest.
  Estimate top1_agreement;
  Estimate perplexity_base, perplexity_other;
  // perplexity_other / perplexity_base. Both models read the same tokens, so
  // the error is that of the mean of log p_base - log p_other, far below what
  // two independent perplexities would give.
  Estimate perplexity_ratio;
  EvalRun run;
};

// Runs both models on the same pieces of the text, so that no logits are kept.
// Fails as RunWindows and Model::Forward do, and with kCorruptFile when the
// logits aren't finite. The result does not depend on the number of threads.
CompareReport Compare(const Model& base, const Model& other,
                      const EvalText& text, const EvalOptions& options);

}  // namespace mobe
