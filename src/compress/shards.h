// From finished factors to the shards of the output.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/hash.h"
#include "compress/compress.h"
#include "compress/journal.h"
#include "compress/packed_parts.h"
#include "io/checkpoint_writer.h"

namespace mobe {

// What an earlier run wrote and this one goes on from. A shard that is as its
// note in the journal says stays; any other goes, with its note, to be written
// again, and the journal says so of one that is damaged.
void KeepSoundShards(const std::vector<Shard>& shards,
                     const std::filesystem::path& out, Journal* journal);

// Forgets the matrices of the plan whose factors are damaged or lost but are
// needed still, for a shard or since this is a part. After KeepSoundShards.
void KeepSoundFactors(const CompressPlan& plan,
                      const std::filesystem::path& out, Journal* journal);

// Gives what tensors have lost that were stored in few bits since its last
// call.
using PackedPartsFn = std::function<std::vector<PackedPart>()>;

// Writes a shard and then its note: SHA-256 of the file, and of those of its
// tensors that `is_factor` names; and what `packed` gives, unless that is null.
// Nothing to do when the journal has the note. False then.
bool WriteNotedShard(const Shard& shard, const std::filesystem::path& out,
                     const TensorSource& source,
                     const std::function<bool(const std::string&)>& is_factor,
                     const PackedPartsFn& packed, Journal* journal);

// What the notes of all shards say, for the recipe.
struct ShardSums {
  std::map<std::string, FileSum> files;
  Json tensors = Json::object();
  std::vector<PackedPart> packed;
};
ShardSums SumsOf(const std::vector<Shard>& shards, const Journal& journal);

// Where the factors of a finished job are, and what they must hash to.
struct FactorsFile {
  std::filesystem::path path;
  std::string sha256;
};
using FactorsOfJob = std::function<FactorsFile(const FactorJob& job)>;

// Writes every shard not yet there whose factors all come from the jobs that
// are `finished`; the other tensors are copied from the model. Calls
// `check_stop`, which may throw, between the pieces that it writes, and
// `written` after each shard with its index. Returns the finished jobs whose
// factors no unwritten shard needs, so that they may be dropped and disk space
// beyond the output stays within a shard and the jobs under way. Fails with
// kCorruptFile when factors are not what they were when they were fitted.
std::vector<size_t> WriteReadyShards(
    const OpenedModel& model, const CompressPlan& plan,
    const std::filesystem::path& out, const std::vector<bool>& finished,
    const FactorsOfJob& factors_of, Journal* journal,
    const std::function<void()>& check_stop,
    const std::function<void(size_t shard)>& written = nullptr);

// The most tensor bytes on the disk, shards and factors, when the jobs finish
// in this order and WriteReadyShards follows each.
int64_t PeakDiskBytes(const CompressPlan& plan,
                      const std::vector<size_t>& order);

}  // namespace mobe
