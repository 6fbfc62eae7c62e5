// Experts that are stacked in one tensor of a layer, as a tensor each.
#pragma once

#include <cstdint>

#include "families/family.h"
#include "io/checkpoint.h"

namespace mobe {

// Whether a layer has such a tensor.
bool HasStacked(const Family& family, const ModelConfig& config,
                const Checkpoint& checkpoint, int64_t layer);

// Gives experts that are stacked a tensor each, under the name that the
// family's table has for it: a view, of which nothing is read or copied. Fails
// with kCorruptFile when such a tensor has another shape than config.json asks
// for.
void SplitStacked(const Family& family, const ModelConfig& config,
                  Checkpoint* checkpoint);

}  // namespace mobe
