// A plain model some layers of which are factored, in memory alone: with gate
// and up as other folders have them, which is quantised where each layer takes
// the form that suits it (compress/bit_choice.h), or with what compress has
// fitted so far.
#pragma once

#include <filesystem>
#include <set>
#include <vector>

#include "mobe/open_model.h"

namespace mobe {

// Fails with kUserInput for a model that is quantised already.
void CheckNotQuantised(const OpenedModel& model);
// The same for one that is factored or quantised.
void CheckIsOriginal(const OpenedModel& model);

struct FactoredLayers {
  OpenedModel model;
  std::set<int64_t> layers;  // to be taken from it
};
// Folder and config are those of `plain`; no layer is taken twice. Fails with
// kUserInput when that is no original, one of the others is quantised, shapes
// differ, or the function between bases and A does.
OpenedModel MixModels(OpenedModel plain, std::vector<FactoredLayers> factored);
// With all layers of one of which gate and up are factored, and down is not.
OpenedModel MixModels(OpenedModel plain, OpenedModel factored);

// A plain model with the factors of these files, which `format` tells.
OpenedModel WithFactors(OpenedModel plain, MobeFormat format,
                        const std::vector<std::filesystem::path>& files);

}  // namespace mobe
