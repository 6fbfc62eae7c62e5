// A plain model some layers of which are factored, in memory alone: with gate
// and up as another folder has them, which is quantised where each layer takes
// the form that suits it (compress/bit_choice.h), or with what compress has
// fitted so far.
#pragma once

#include <filesystem>
#include <set>
#include <vector>

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

// A plain model with the factors of these files, which `format` tells.
OpenedModel WithFactors(OpenedModel plain, MobeFormat format,
                        const std::vector<std::filesystem::path>& files);

}  // namespace mobe
