// The router: which experts a token goes to, and with which weights.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace mobe {

// The picks of `tokens` tokens. A token's picks are ascending in the expert, so
// that sums over them have one order.
struct Routing {
  int64_t tokens = 0;
  int64_t picks_per_token = 0;
  std::vector<int32_t> experts;  // [tokens, picks_per_token]
  std::vector<float> weights;    // the same shape
};

// Softmax over the experts of each row of logits [tokens, experts], then the
// `picks` largest (the lowest expert of equals), divided by their sum when
// `normalise`. Turns the logits into probabilities in place. Picks are valid
// experts even where logits are NaN.
void Route(float* logits, int64_t tokens, int64_t experts, int64_t picks,
           bool normalise, Routing* routing);

// Called for each layer with experts with what goes into it: x [tokens,
// hidden], and its routing.
using MoeObserver =
    std::function<void(int64_t layer, const float* x, const Routing& routing)>;

}  // namespace mobe
