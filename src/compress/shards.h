// From finished factors to the shards of the output.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "compress/compress.h"

namespace mobe {

// The file of a finished job's factors.
using FactorsOfJob = std::function<std::filesystem::path(const FactorJob& job)>;

// Writes every shard not yet there whose factors all come from the jobs that
// are `finished`; the other tensors are copied from the model. Calls `written`
// after each with its index. Returns the finished jobs whose factors no
// unwritten shard needs, so that they may be dropped and disk space beyond the
// output stays within a shard and the jobs under way.
std::vector<size_t> WriteReadyShards(
    const OpenedModel& model, const CompressPlan& plan,
    const std::filesystem::path& out, const std::vector<bool>& finished,
    const FactorsOfJob& factors_of,
    const std::function<void(size_t shard)>& written = nullptr);

// The most tensor bytes on the disk, shards and factors, when the jobs finish
// in this order and WriteReadyShards follows each.
int64_t PeakDiskBytes(const CompressPlan& plan,
                      const std::vector<size_t>& order);

}  // namespace mobe
