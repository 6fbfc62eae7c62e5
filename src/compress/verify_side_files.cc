#include "compress/verify_side_files.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "compress/model_card.h"
#include "compress/recipe.h"
#include "io/side_files.h"
#include "mobe/modeling_file.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

bool SameBytes(const fs::path& a, const fs::path& b) {
  const MappedFile first(a);
  const MappedFile second(b);
  return std::ranges::equal(first.bytes(), second.bytes());
}

// What is wrong with the copy of a file, or nothing.
std::string FaultOf(const fs::path& original, const SideFiles& copy,
                    const std::string& name) {
  if (copy.Find(name) == nullptr) {
    return fmt::format("{}: not there, expected a copy of {}",
                       (copy.folder / name).string(), original.string());
  }
  if (SameBytes(original, copy.folder / name)) return "";
  return fmt::format("{}: differs from {}, expected a copy",
                     (copy.folder / name).string(), original.string());
}

}  // namespace

SideFileFindings CompareSideFiles(const fs::path& original,
                                  const fs::path& copy) {
  SideFileFindings found;
  const SideFiles theirs = ListSideFiles(original);
  const SideFiles ours = ListSideFiles(copy);
  for (const BrokenFile& file : ours.broken) found.faults.push_back(file.line);
  const auto told = [&](const std::string& name) {
    return std::ranges::find(ours.broken, name, &BrokenFile::name) !=
           ours.broken.end();
  };
  for (const SideFile& file : theirs.copied) {
    // Each folder has its own of these.
    if (file.name == kRecipeFile || file.name == kOriginalCardFile ||
        file.name == kModelingFile) {
      continue;
    }
    if (told(file.name)) continue;
    const fs::path path = original / file.name;
    const std::string fault = FaultOf(path, ours, file.name);
    if (fault.empty()) continue;
    if (file.name == kCardFile &&
        FaultOf(path, ours, kOriginalCardFile).empty()) {
      continue;
    }
    found.faults.push_back(fault);
  }
  for (const BrokenFile& file : theirs.broken) {
    if (told(file.name) || ours.Find(file.name) != nullptr) continue;
    (file.needed ? found.faults : found.warnings).push_back(file.line);
  }
  return found;
}

}  // namespace mobe
