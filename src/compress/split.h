// The split of the bytes over layers and kinds: which shape each matrix kind of
// each layer gets, or whether it is left whole, so that the total keeps to a
// ratio and the predictions change least.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/progress.h"
#include "compress/compress.h"
#include "mobe/layer_kind.h"

namespace mobe {

// One way to keep a kind of a layer, and what that costs.
struct SplitChoice {
  int64_t num_bases = 0;  // 0: left whole
  int64_t rank = 0;
  int64_t size = 0;   // numbers stored
  double damage = 0;  // to the predictions, 0 when whole
};

// The choice for each: sum of sizes at most `budget`, sum of damages small.
// Greedy on the lower convex hulls of damage over size, which is the optimum
// (of all sums with no more than that size, Lagrange) but for the last step;
// what that leaves goes to the choices that still fit, best first. More budget
// never does more damage on the hulls. Ties go to the first. Fails with
// kUserInput when the smallest choices exceed the budget.
std::vector<size_t> AllocateSplit(
    const std::vector<std::vector<SplitChoice>>& choices, int64_t budget);

// Chooses for the layers and kinds of `options` at its ratio.
//
// Damage of a matrix is taken as proportional to its squared error. How much
// damage an error does is measured, by the divergence that a short fit causes
// in each layer and kind; how error falls with size, by a few longer fits of
// each kind in the middle layer (split_curve.h). `moments` is the calibration's
// file, empty without. Deterministic, independent of the number of threads.
// Calls options.stop.
std::vector<FactorShape> ChooseShapes(const OpenedModel& model,
                                      const CompressOptions& options,
                                      const std::filesystem::path& moments,
                                      const DamageFn& measure_damage,
                                      const ProgressFn& progress);

}  // namespace mobe
