// Materialises the experts of factored layers at load.
#pragma once

#include "model/weights.h"

namespace mobe {

// Turns every factored layer into a plain one when the options ask for it:
// factored matrices become W = A f(sum alpha B), computed in float32 and stored
// in options.precision, and `factored` is reset. Fails with kOutOfMemory when
// kBuilt is asked for and needs more than the available memory.
void BuildExperts(const LoadOptions& options, Weights* weights);

}  // namespace mobe
