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

  // The tensor of a role, of an expert or (bases and alpha) of the group with
  // that index; fails for one that the model does not have.
  const TensorView& At(Role role, int64_t layer = -1,
                       int64_t expert_or_group = -1) const;
  // How a kind of a layer is factored; null when it is plain.
  const FactorShape* Factored(int64_t layer, const MatrixKind& kind) const {
    return mobe ? mobe->Find(layer, kind) : nullptr;
  }
};

// What is wrong with a tensor that `spec` asks for, as one line that names
// file, tensor and both shapes, or nothing.
std::optional<std::string> CheckTensor(const Checkpoint& checkpoint,
                                       const TensorSpec& spec);

// Fails with kMissing for a tensor that is not there, kCorruptFile for one of
// the wrong shape or of a dtype that is no float, kUnsupported for a key of
// config.json or a tensor of which it is not known that the model does without
// (IsNotRun). Reads no tensor but an lm_head beside tied embeddings.
OpenedModel OpenModel(const std::filesystem::path& folder);

}  // namespace mobe
