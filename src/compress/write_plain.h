// Writing a plain checkpoint from computed matrices: what reconstruct and the
// baselines have in common.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "base/progress.h"
#include "base/stop.h"
#include "compress/journal.h"
#include "compress/recipe.h"
#include "mobe/open_model.h"

namespace mobe {

// Computes a tensor into `values` (of spec.shape) and returns true, or returns
// false: it is then copied from the model. Called once for each tensor of the
// family's table that a shard to be written holds, in its order: layer by
// layer, role by role.
using ComputeFn = std::function<bool(const TensorSpec& spec, float* values)>;

struct PlainJob {
  Json options;  // that make the result what it is, "command" among them
  int64_t shard_bytes = 0;
  ComputeFn compute;
  // Called between the journal's beginning and the first tensor, and after the
  // last shard, for the recipe's matrices. Either may be null.
  std::function<void(Journal* journal)> begin;
  std::function<Json(Journal* journal)> matrices;
  // The text of the model card, from the source's recipe; null: its own.
  std::function<std::string(const Recipe&)> card;
  StopFn stop;  // asked after each tensor
};

// Writes a plain model of model.config into `out`: computed values are rounded
// to the dtype that the model has under that name, FP8 becomes BF16. Continues
// an interrupted job of these options and this model, as Journal does; false
// when it was finished before. Fails with kDiskFull when there is too little
// space, before any work; throws Stopped.
bool WritePlain(const OpenedModel& model, const std::filesystem::path& out,
                const PlainJob& job, const ProgressFn& progress);

}  // namespace mobe
