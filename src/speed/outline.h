// What the speed of a model depends on: known also before its weights are here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "families/family.h"
#include "mobe/format.h"
#include "mobe/operations.h"

namespace mobe {

struct SizedTensor {
  TensorSpec spec;
  // In memory, as model/weights.h loads it: matrices as they are stored, but
  // those of F16 as float32; vectors, routers and alphas as float32.
  int64_t bytes = 0;
  const FormatRow* packed = nullptr;  // null: the matrix is not
};

struct Outline {
  const Family* family = nullptr;
  ModelConfig config;
  std::optional<MobeFormat> mobe;  // nothing: a plain model
  std::vector<SizedTensor> tensors;
  Operations operations;
  // The files with the weights; none: they are not here, and config.json alone
  // tells dtypes and factors.
  std::vector<std::filesystem::path> shards;

  int64_t bytes() const;
};

// Of a model folder. Where model.safetensors, or a file that its index names,
// is not there, config.json (and the index, for expert groups) is enough. Fails
// as OpenModel, and with kUnsupported for a config that asks for more experts
// than any model has.
Outline ReadOutline(const std::filesystem::path& folder);

}  // namespace mobe
