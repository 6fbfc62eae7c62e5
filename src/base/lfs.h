// Git LFS keeps large files elsewhere. Where it is not installed, a clone has
// pointers in their place: some 130 bytes of text.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "base/error.h"
#include "base/file.h"

namespace mobe {

// What to say of one, after its path.
inline constexpr char kLfsPointerFault[] =
    "a Git LFS pointer, not the file that it stands for; 'git lfs pull' in its "
    "folder gets that";

// Whether a file with this beginning (100 bytes, or all) is a pointer.
inline bool IsLfsPointer(std::span<const std::byte> beginning) {
  return std::string_view(reinterpret_cast<const char*>(beginning.data()),
                          beginning.size())
      .starts_with("version https://git-lfs.github.com/spec/");
}

// Fails with kMissing when it is one.
inline void CheckNoLfsPointer(const MappedFile& file) {
  if (!IsLfsPointer(file.bytes())) return;
  Fail(ErrorKind::kMissing, "{}: {}", file.path().string(), kLfsPointerFault);
}

}  // namespace mobe
