// A plain model with gate and up of some layers as another folder has them
// factored, in memory alone: what is quantised where each layer takes the form
// that suits it (compress/bit_choice.h).
#pragma once

#include <set>

#include "mobe/open_model.h"

namespace mobe {

// Fails with kUserInput for a model that is factored or quantised already.
void CheckIsOriginal(const OpenedModel& model);

// Layers whose gate and up are both factored, and whose down is not.
std::set<int64_t> MixableLayers(const OpenedModel& factored);

// Folder and config are those of `plain`. Fails with kUserInput when that is no
// original, `factored` is quantised, or they are of different shapes.
OpenedModel MixModels(OpenedModel plain, OpenedModel factored,
                      const std::set<int64_t>& layers);

}  // namespace mobe
