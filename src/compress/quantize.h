// Storing a model's matrices in few bits (tensor/packed.h), plain or factored.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/stop.h"
#include "mobe/open_model.h"
#include "mobe/parts.h"

namespace mobe {

struct QuantizeOptions {
  const FormatRow* format = nullptr;  // a packed one
  // Parts that are quantised; empty: all. Embedding and head take 8 bits at
  // least unless they are named: few parameters, of which every token's logits
  // are made. Bases take 8 bits in any case: they have no other form.
  std::vector<const QuantPart*> parts;
  int64_t shard_bytes = 0;
  StopFn stop;  // asked after each tensor
};

// What became of the model's bytes.
struct QuantizeReport {
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  int64_t matrices = 0;  // quantised; the bases of a layer and kind count one
  double error = 0;      // relative, of all of these: ||W - Q|| / ||W||
  std::string worst;     // the tensor with the largest, and that
  double worst_error = 0;
};

// Rounds each matrix of the parts, and the bases, to the nearest that the
// format can store (EncodePacked, EncodeBasesRow); all other tensors stay as
// they are. Continues an interrupted
// job of these options; nothing when that was finished before. Fails with
// kUserInput when nothing would change or a matrix is packed already, with
// kCorruptFile when a weight is not finite, and as WriteModel does.
std::optional<QuantizeReport> Quantize(const OpenedModel& model,
                                       const std::filesystem::path& out,
                                       const QuantizeOptions& options,
                                       const ProgressFn& progress);

}  // namespace mobe
