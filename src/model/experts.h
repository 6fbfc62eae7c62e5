// The feed-forward part of a layer: what runs for every token (a dense MLP, or
// shared experts), and experts behind a router.
#pragma once

#include <cstdint>
#include <vector>

#include "model/mix_batch.h"
#include "model/router.h"
#include "model/weights.h"

namespace mobe {

// Memory between the steps, reused from call to call. A pair is a token and one
// of its experts; pairs are sorted by expert, then by token.
struct MlpScratch {
  Buffer<float> router_logits;  // [tokens, experts]
  Routing routing;
  std::vector<int64_t> starts;  // [experts + 1]: an expert's first pair
  Buffer<int64_t> pair_of;      // [tokens, picks]
  Buffer<float> x;              // [pairs, hidden]
  Buffer<float> mixed_gate;     // [pairs, rank]: N x of a factored layer
  Buffer<float> mixed_up;
  // [pairs, expert_size]; after RunMlp `gate` holds the input of down.
  Buffer<float> gate, up;
  Buffer<float> down_rank;  // [pairs, rank]: A^T h of a factored down
  Buffer<float> down;       // [pairs, hidden]
  std::vector<LinearJob> linear_jobs;
  std::vector<MixJob> mix_jobs;
};

// residual += the MLP of x [tokens, hidden] (already normed). A token's experts
// are added in ascending order. `observe` may be empty.
void RunMlp(const ModelConfig& config, const LayerWeights& weights,
            Precision precision, int64_t layer, const float* x, int64_t tokens,
            const MoeObserver& observe, MlpScratch* scratch, float* residual);

}  // namespace mobe
