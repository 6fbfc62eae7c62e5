// Opening a model folder: the one place where a checkpoint is held against its
// family's table. What has passed here can be trusted by everything above.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "families/family.h"
#include "io/checkpoint.h"
#include "mobe/format.h"

namespace mobe {

struct OpenedModel {
  Checkpoint checkpoint;
  const Family* family = nullptr;
  ModelConfig config;
  std::optional<MobeFormat> mobe;   // nothing: a plain model
  std::vector<TensorSpec> tensors;  // all are in the checkpoint, shapes right

  // The tensor of a role; fails with kInternal for one not in `tensors`.
  const TensorView& At(Role role, int64_t layer = -1,
                       int64_t expert = -1) const;
  bool IsFactored(int64_t layer) const { return mobe && mobe->Has(layer); }
};

// Fails with kMissing for a tensor that is not there, kCorruptFile for one of
// the wrong shape, kUnsupported for a dtype that is no float; the message names
// file, tensor, and both shapes. Reads no tensor.
OpenedModel OpenModel(const std::filesystem::path& folder);

}  // namespace mobe
