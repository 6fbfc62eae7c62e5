// One matrix kind of one layer, and what replacing its matrices does.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/dtype.h"
#include "base/matrix.h"
#include "base/progress.h"
#include "mobe/format.h"

namespace mobe {

struct LayerKind {
  int64_t layer = 0;
  const MatrixKind* kind = nullptr;
};

// What stands for the experts' matrices of a kind in a layer: [experts, rows,
// cols] as they are stored.
using ReplaceFn =
    std::function<Buffer<BFloat16>(int64_t layer, const MatrixKind& kind)>;
// KL divergence that each replacement alone causes; eval/damage.h has it.
using DamageFn = std::function<std::vector<double>(
    const std::vector<LayerKind>& matrices, const ReplaceFn& replace,
    const ProgressFn& progress)>;

}  // namespace mobe
