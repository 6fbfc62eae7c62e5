#include "io/checkpoint_writer.h"

#include <algorithm>

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
  if (!Exists(folder)) return;
  if (!IsFolder(folder)) {
    Fail(ErrorKind::kUserInput, "{}: not a folder, expected a new or empty one",
         folder.string());
  }
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
