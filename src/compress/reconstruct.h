// From the native format back to a standard checkpoint: every factored matrix
// becomes A f(sum_i alpha_i B_i), for down its transpose, computed in float32
// and rounded to the dtype of its factors, and every packed one BF16.
// transformers, vLLM and SGLang load the result.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/progress.h"
#include "base/stop.h"
#include "mobe/open_model.h"

namespace mobe {

// Leaves a recipe.json of its own, and a model card of the result where the
// model has a recipe. Continues an interrupted run of the same; false when that
// was finished before. Fails with kUserInput when the model is neither factored
// nor quantised, or `out` holds something else, with kDiskFull when `out` has
// too little disk space. Asks `stop` after each tensor and throws Stopped.
bool Reconstruct(const OpenedModel& model, const std::filesystem::path& out,
                 int64_t shard_bytes, const ProgressFn& progress,
                 const StopFn& stop = nullptr);

}  // namespace mobe
