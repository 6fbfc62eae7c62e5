// Space and speed of the file system that a folder is, or will be, on.
#pragma once

#include <cstdint>
#include <filesystem>

namespace mobe {

// Bytes that this user may still write where `folder` is. It need not exist:
// the nearest parent that does counts.
int64_t FreeDiskBytes(const std::filesystem::path& folder);

// Bytes of all files below a folder; 0 when there is none.
int64_t BytesBelow(const std::filesystem::path& folder);

// Fails with kDiskFull when less than `bytes`, less what `folder` holds already
// (of an earlier run), is free there.
void CheckDiskSpace(const std::filesystem::path& folder, int64_t bytes);

// Seconds to write that many bytes there durably: measured with a file that has
// no name and leaves nothing, of at most 128 MiB and as much as is written in
// two seconds. 0 where the file system has no such files, or can't be written
// to.
double MeasureWriting(const std::filesystem::path& folder, int64_t bytes);

}  // namespace mobe
