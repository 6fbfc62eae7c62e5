// From the native format back to a standard checkpoint: every factored matrix
// becomes A f(sum_i alpha_i B_i), for down its transpose, computed in float32
// and rounded to the dtype of its factors. transformers, vLLM and SGLang load
// the result.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/progress.h"
#include "mobe/open_model.h"

namespace mobe {

// recipe.json is left out, the model card replaced by one of the result. Fails
// with kUserInput when the model is not factored or `out` is not empty.
void Reconstruct(const OpenedModel& model, const std::filesystem::path& out,
                 int64_t shard_bytes, const ProgressFn& progress);

}  // namespace mobe
