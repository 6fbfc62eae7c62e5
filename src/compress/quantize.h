// Storing a model's matrices in few bits (tensor/packed.h), plain or factored.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <vector>

#include "base/progress.h"
#include "base/stop.h"
#include "compress/compress.h"
#include "compress/packing.h"
#include "mobe/open_model.h"

namespace mobe {

// An empty Json is made without memory.
struct QuantizeOptions {  // NOLINT(bugprone-exception-escape)
  PackRule rule;
  int64_t shard_bytes = 0;
  StopFn stop;  // asked after each tensor, and while the text runs
  // Rounds in the norm of what matrices read (weighed_rounding.h): its
  // `collect` writes the file of mobe/moments_file.h, of all matrices.
  std::optional<Calibration> calibration = {};
  // The model with some layers' gate and up factored (mobe/mixed_model.h): what
  // is then stored; null: the model as it is. `fits` are the folders with those
  // factors, of which the recipe tells.
  const OpenedModel* mixed = nullptr;
  struct Fit {
    std::filesystem::path folder;
    std::set<int64_t> layers;
  };
  std::vector<Fit> fits = {};
  // Of a choice (bit_choice.h): what it was asked for and what came of it, to
  // stand among the options of the recipe.
  Json choice = Json::object();
};

// What became of the model's bytes.
struct QuantizeReport {
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  std::vector<PackedPart> parts;  // that were quantised now
};

// Stores each matrix of the parts, and the bases, in few bits (PlaneWriter);
// all other tensors stay as they are. Continues an interrupted job of these
// options; nothing when that was finished before. Fails with kUserInput when
// nothing would change or a matrix is packed already, with kCorruptFile when a
// weight is not finite, and as WriteModel does.
std::optional<QuantizeReport> Quantize(const OpenedModel& original,
                                       const std::filesystem::path& out,
                                       const QuantizeOptions& options,
                                       const ProgressFn& progress);

}  // namespace mobe
