// Writing a plain checkpoint from computed matrices: what reconstruct and the
// baselines have in common.
#pragma once

#include <filesystem>
#include <functional>

#include "compress/write_model.h"

namespace mobe {

// Computes a tensor into `values` (of spec.shape) and returns true, or returns
// false: it is then copied from the model. Called once for each tensor of the
// family's table that a shard to be written holds, in its order: layer by
// layer, role by role.
using ComputeFn = std::function<bool(const TensorSpec& spec, float* values)>;

// Writes a plain model of model.config into `out`, as WriteModel does, of whose
// job tensors, source, written and config are filled in: computed values are
// rounded to the dtype that the model has under that name; FP8 and packed
// matrices become BF16.
bool WritePlain(const OpenedModel& model, const std::filesystem::path& out,
                WriteJob job, const ComputeFn& compute,
                const ProgressFn& progress);

}  // namespace mobe
