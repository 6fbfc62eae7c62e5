// The feed-forward part of a layer: what runs for every token (a dense MLP, or
// shared experts), and experts behind a router.
#pragma once

#include <cstdint>

#include "model/expert_executor.h"
#include "model/expert_math.h"
#include "model/router.h"
#include "model/weights.h"

namespace mobe {

// A layer and who runs its experts: null in a layer without.
struct RunnableLayer {
  const LayerWeights* weights = nullptr;
  ExpertExecutor* experts = nullptr;
};

// residual += the MLP of x [tokens, hidden] (already normed). A token's experts
// are added in ascending order. `next` is the layer after this one, or nothing:
// which of its experts are likely to run is guessed from the residual.
// `observe` may be empty.
void RunMlp(const ModelConfig& config, const RunnableLayer& layer,
            const RunnableLayer& next, const Arithmetic& math, int64_t index,
            const float* x, int64_t tokens, const MoeObserver& observe,
            MlpScratch* scratch, float* residual);

}  // namespace mobe
