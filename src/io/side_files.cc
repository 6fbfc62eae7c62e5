#include "io/side_files.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/file.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

constexpr char kConfigFile[] = "config.json";

// Never copied beside new weights.
constexpr std::string_view kNotSideFiles[] = {
    ".safetensors", ".bin", ".pth", ".gguf", ".index.json", ".tmp"};

}  // namespace

std::vector<std::string> CopySideFiles(
    const fs::path& from, const fs::path& to,
    const std::vector<std::string>& leave_out) {
  std::vector<std::string> copied;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(from, error)) {
    const std::string name = entry.path().filename().string();
    const bool skipped =
        name.starts_with('.') || name == kConfigFile ||
        std::ranges::find(leave_out, name) != leave_out.end() ||
        std::ranges::any_of(kNotSideFiles, [&name](std::string_view ending) {
          return name.ends_with(ending);
        });
    std::error_code broken_link;
    if (skipped || !entry.is_regular_file(broken_link)) continue;
    const MappedFile file(entry.path());
    AtomicFile copy(to / name);
    copy.Write(file.bytes());
    copy.Commit();
    copied.push_back(name);
  }
  if (error) {
    Fail(ErrorKind::kMissing, "{}: cannot read the folder: {}", from.string(),
         error.message());
  }
  std::ranges::sort(copied);
  return copied;
}

}  // namespace mobe
