// Writing a model folder tensor by tensor, as a job that can be continued: what
// reconstruct, the baselines and quantize have in common.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/stop.h"
#include "compress/journal.h"
#include "compress/packed_parts.h"
#include "compress/recipe.h"
#include "compress/shards.h"
#include "io/checkpoint_writer.h"
#include "mobe/open_model.h"

namespace mobe {

// An empty Json is made without memory.
struct WriteJob {  // NOLINT(bugprone-exception-escape)
  Json options;    // that make the result what it is, "command" among them
  int64_t shard_bytes = 0;
  int64_t work_bytes = 0;           // what it keeps beside them until it ends
  std::vector<TensorDecl> tensors;  // to be written, in this order
  TensorSource source;              // their bytes, asked for in their order
  std::vector<TensorSpec> written;  // those that the family's table knows
  Json config;
  // Called between the journal's beginning and the first tensor, and after the
  // last shard, for the recipe's matrices. Either may be null.
  std::function<void(Journal* journal)> begin;
  std::function<Json(Journal* journal)> matrices;
  // Of a job that stores tensors in few bits: takes what those of a file have
  // lost, once it is written; and is given all of it in the end. The recipe
  // then takes over what the source's says of matrices in few bits.
  PackedPartsFn packed_parts;
  std::function<void(const std::vector<PackedPart>&)> packed_all;
  // The text of the model card, from the source's recipe; null: its own.
  std::function<std::string(const Recipe&)> card;
  // The same from the recipe of what is written and the original's card.
  std::function<std::string(const Recipe&, const std::string&)> new_card;
  StopFn stop;  // asked after each tensor
};

// Writes `out` from a model. Continues an interrupted job of these options and
// this model, as Journal does; false when it was finished before. Fails with
// kDiskFull when there is too little space, before any work; throws Stopped.
bool WriteModel(const OpenedModel& model, const std::filesystem::path& out,
                const WriteJob& job, const ProgressFn& progress);

}  // namespace mobe
