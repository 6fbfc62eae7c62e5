#include "io/checkpoint_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/file.h"

namespace mobe {

namespace fs = std::filesystem;

FileSum WriteShard(const fs::path& folder, const Shard& shard,
                   const TensorSource& source) {
  // transformers refuses files without this key.
  SafetensorsWriter writer(folder / shard.file, shard.tensors,
                           {{"format", "pt"}});
  for (const TensorDecl& tensor : shard.tensors) {
    source(tensor, [&](std::span<const std::byte> piece) {
      writer.Append(tensor.name, piece);
    });
  }
  return writer.Commit();
}

void FinishCheckpoint(const fs::path& folder, const std::vector<Shard>& shards,
                      const SideFiles& side_files, const Json& config,
                      const BeforeConfigFn& before_config) {
  if (shards.size() > 1) {
    WriteFileAtomically(folder / "model.safetensors.index.json",
                        ShardIndex(shards));
  }
  const auto copied = CopySideFiles(side_files, folder);
  const std::string text = DumpJson(config, 2) + "\n";
  if (before_config) before_config(copied, text);
  WriteFileAtomically(folder / "config.json", text);
}

void CheckOutputFolder(const fs::path& folder,
                       const std::vector<std::string>& ours) {
  // The folder, or that in which it is going to be made.
  fs::path place = fs::absolute(folder).lexically_normal();
  while (!Exists(place)) {
    std::error_code error;
    if (fs::is_symlink(place, error)) {
      Fail(ErrorKind::kUserInput,
           "{}: a link to what is not there; name a new or empty folder",
           place.string());
    }
    place = place.parent_path();
  }
  if (Exists(folder) && !IsFolder(folder)) {
    Fail(ErrorKind::kUserInput, "{}: not a folder, expected a new or empty one",
         folder.string());
  }
  if (!IsFolder(place)) {
    Fail(ErrorKind::kUserInput, "{}: not a folder, so {} can't be made there",
         place.string(), folder.string());
  }
  if (::access(place.c_str(), W_OK) != 0) {
    Fail(ErrorKind::kUserInput, "{}: can't be written to: {}", place.string(),
         std::strerror(errno));
  }
  if (!Exists(folder)) return;
  for (const std::string& name : ListFolder(folder)) {
    if (std::find(ours.begin(), ours.end(), name) != ours.end() ||
        name.ends_with(kTemporaryEnding)) {
      continue;
    }
    Fail(ErrorKind::kUserInput,
         "{}: the output folder already holds {}; name a new or empty folder",
         folder.string(), name);
  }
}

}  // namespace mobe
