// The router: which experts a token goes to, and with which weights.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "families/family.h"

namespace mobe {

// The picks of `tokens` tokens. A token's picks are ascending in the expert, so
// that sums over them have one order.
struct Routing {
  int64_t tokens = 0;
  int64_t picks_per_token = 0;
  std::vector<int32_t> experts;  // [tokens, picks_per_token]
  std::vector<float> weights;    // the same shape
};

// Routes tokens by their logits [tokens, num_experts], which are turned into
// scores in place: the softmax of a token's logits, or the sigmoid of each. Of
// the scores, to which `bias` [num_experts] is added where the model has one
// (else it is empty), the largest experts_per_token are picked, the lowest
// expert of equals.
//
// With groups, experts outside the best kept_groups are not picked (DeepSeek's
// own code and transformers 5; transformers 4 counts them as 0, which may be
// above a negative score and bias). A group is as good as its best two scores
// together where there is a bias (DeepSeek-V3, arXiv 2412.19437,
// section 2.1.2), else as its best one (V2).
//
// A pick's weight is its score without the bias, divided by the sum of the
// token's if the rule says so, times the rule's scale. Picks are valid experts
// even where logits are NaN.
void Route(const ModelConfig& config, std::span<const float> bias,
           float* logits, int64_t tokens, Routing* routing);

// Called for each layer with experts with what goes into it: x [tokens,
// hidden], and its routing.
using MoeObserver =
    std::function<void(int64_t layer, const float* x, const Routing& routing)>;

}  // namespace mobe
