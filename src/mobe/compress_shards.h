// From finished factors to the shards of the output.
#pragma once

#include <cstddef>
#include <filesystem>

#include "mobe/compress.h"
#include "mobe/journal.h"

namespace mobe {

// Writes every shard not yet there whose factors all come from the first
// `finished` jobs of the plan; the other tensors are copied from the model.
// Then drops the factors that no unwritten shard needs, so that disk space
// beyond the output stays within a shard and a layer.
void WriteReadyShards(const OpenedModel& model, const CompressPlan& plan,
                      const std::filesystem::path& out, size_t finished,
                      Journal* journal);

}  // namespace mobe
