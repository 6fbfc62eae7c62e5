// The side files of a model against those of its original.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mobe {

struct SideFileFindings {
  std::vector<std::string> faults;
  std::vector<std::string> warnings;
};

// A line for each file that io/side_files.h would copy from `original` and that
// is not in `copy`, or differs there; for each in `copy` that is a link to
// nothing, an LFS pointer or the like; and for each of those in `original`
// without a sound file in `copy`: a fault when it is needed, else a warning.
// The original's README.md may have become README.original.md.
SideFileFindings CompareSideFiles(const std::filesystem::path& original,
                                  const std::filesystem::path& copy);

}  // namespace mobe
