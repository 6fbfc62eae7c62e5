// Writing a checkpoint folder, shard by shard. config.json comes last, so a
// folder that has one is whole.
#pragma once

#include <filesystem>
#include <functional>
#include <vector>

#include "base/json.h"
#include "io/checkpoint.h"
#include "io/side_files.h"

namespace mobe {

// Passes the bytes of one tensor, front to back, in one or more pieces to sink.
using ByteSink = std::function<void(std::span<const std::byte>)>;
using TensorSource =
    std::function<void(const TensorDecl& tensor, const ByteSink& sink)>;

// Writes one file of the plan, whole and durable or not at all.
FileSum WriteShard(const std::filesystem::path& folder, const Shard& shard,
                   const TensorSource& source);

// After the last shard: index (when there are several), the side files, and
// config.json. Just before that, with all else there, it calls
// before_config(names of the copied side files, the text of config.json).
using BeforeConfigFn = std::function<void(
    const std::vector<std::string>& copied, const std::string& config)>;
void FinishCheckpoint(const std::filesystem::path& folder,
                      const std::vector<Shard>& shards,
                      const SideFiles& side_files, const Json& config,
                      const BeforeConfigFn& before_config = nullptr);

// Fails with kUserInput when `folder` exists and is not an empty folder, so
// that nothing of the user's is overwritten, and when it can't be written to.
// Entries named in `ours` and AtomicFile's temporary ones count as absent.
void CheckOutputFolder(const std::filesystem::path& folder,
                       const std::vector<std::string>& ours = {});

}  // namespace mobe
