// Writing a plain checkpoint from computed matrices: what reconstruct and the
// baselines have in common.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/stop.h"
#include "io/checkpoint_writer.h"
#include "mobe/open_model.h"

namespace mobe {

// Computes a tensor into `values` (of spec.shape) and returns true, or returns
// false: it is then copied from the model. Called once for each tensor of the
// family's table, in its order: layer by layer, role by role.
using ComputeFn = std::function<bool(const TensorSpec& spec, float* values)>;

struct WritePlainOptions {
  std::vector<std::string> leave_out;  // side files that are not copied
  BeforeConfigFn before_config;        // for FinishCheckpoint
  StopFn stop;                         // asked after each tensor
};

// Writes a plain model of model.config into `out`, which the caller has
// checked; computed values are rounded to the dtype that the model has under
// that name, FP8 becomes BF16. Fails with kDiskFull when there is too little
// space, with kMissing for a side file that CheckSideFiles refuses, before any
// work; throws Stopped. Whatever it throws, it first removes
// what it wrote.
void WritePlain(const OpenedModel& model, const std::filesystem::path& out,
                int64_t shard_bytes, const ComputeFn& compute,
                const ProgressFn& progress,
                const WritePlainOptions& options = {});

}  // namespace mobe
