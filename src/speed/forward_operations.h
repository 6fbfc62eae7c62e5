// The arithmetic of running a model, from its config alone.
#pragma once

#include <cstdint>

#include "families/family.h"

namespace mobe {

// Additions and multiplications of the products that run `tokens` tokens behind
// `depth` others, with logits of `logits` of them: two for each weight that a
// token meets, and, of attention, for each number of the keys and values that
// it sees (itself included). Softmax, norms and rotary embedding are left out,
// which are less than a hundredth.
//
// These are the operations of the model and not of how it is run, so that
// speeds can be compared: experts count as plain ones, whatever mixing their
// factors takes (mobe/operations.h counts that), and latent attention as keys
// and values made once, though decoding runs it absorbed.
double ForwardOperations(const ModelConfig& config, int64_t tokens,
                         int64_t depth, int64_t logits);

}  // namespace mobe
