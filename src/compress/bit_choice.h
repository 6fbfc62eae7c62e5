// Which form each layer's experts take so that a model keeps to so many bytes
// and its predictions change least: their own matrices in 2 to 8 bits, or
// factors of them in so many, of one or of several fits.
//
// What a form does to the predictions is taken as
//
//   sum over gate, up and down of  damage * error,
//
// error being the squared, relative error of the rounded matrix in the norm of
// what it reads (ExpertErrors), measured on some experts of each layer, and
// damage the divergence that a unit of error causes: measured by the
// divergence from the model with one kind of one layer's matrices disturbed by
// a known error, each row made an eighth longer or shorter. It is nearly
// proportional to the error for what is worth choosing. What is no expert keeps
// the format of the rule.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "base/progress.h"
#include "mobe/layer_kind.h"
#include "mobe/open_model.h"
#include "mobe/parts.h"

namespace mobe {

struct BitChoice {
  std::vector<PartFormat> formats;  // to be added to the rule's
  // Layers that take a factored form: which of them.
  std::map<int64_t, size_t> factored_layers;
  int64_t bytes = 0;      // of all tensors
  double divergence = 0;  // expected, in nats a token
};

// Fails with kUserInput, giving the least that can be asked for, where `bytes`
// are too few for ChooseBits, which takes it for granted that they are not.
void CheckBytes(const OpenedModel& model, std::span<const OpenedModel> factored,
                const PackRule& rule, int64_t bytes);

// The same before there are factors, from their shapes alone, of one fit or of
// several.
void CheckBytesBeforeFit(const OpenedModel& model,
                         std::span<const MobeFormat> factored,
                         const PackRule& rule, int64_t bytes);

// Of a plain model and its factored forms: of MixModels, each with all layers
// factored that can be. `rule` is what the rest of the model takes. Greedy
// on convex hulls (AllocateSplit). Deterministic, independent of the number of
// threads.
BitChoice ChooseBits(const OpenedModel& model,
                     std::span<const OpenedModel> factored,
                     const PackRule& rule, int64_t bytes,
                     const std::filesystem::path& moments,
                     const DamageFn& measure_damage,
                     const ProgressFn& progress);

}  // namespace mobe
