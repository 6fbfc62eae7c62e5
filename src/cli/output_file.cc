#include "cli/output_file.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/file.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// False where one of them is not there.
bool IsSame(const fs::path& a, const fs::path& b) {
  std::error_code missing;
  return fs::equivalent(a, b, missing);
}

// True of an empty file, too: it holds nothing to lose.
bool IsOfKind(const fs::path& path, const OutputKind& kind) {
  std::error_code error;
  if (fs::file_size(path, error) == 0) return true;
  std::ifstream file(path, std::ios::binary);
  std::string bytes(kind.bytes.size(), '\0');
  file.seekg(static_cast<std::streamoff>(kind.at));
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return file && bytes == kind.bytes;
}

// The file is what one in the folder is, or a link there points to.
bool IsIn(const fs::path& path, const fs::path& folder) {
  std::error_code error;
  for (auto at = fs::directory_iterator(folder, error);
       !error && at != fs::directory_iterator(); at.increment(error)) {
    if (IsSame(path, at->path())) return true;
  }
  return false;
}

}  // namespace

void AddForce(CLI::App* command, const std::string& what, OutputFile* file) {
  command->add_flag("--force", file->force,
                    "write " + what + " over whatever file is there");
}

void CheckOutputFile(const OutputFile& file, const OutputKind& kind,
                     const std::vector<std::string>& models,
                     const std::vector<std::string>& inputs) {
  const fs::path path = file.path;
  const bool exists = Exists(path);
  if (exists && !IsFile(path)) {
    Fail(ErrorKind::kUserInput, "{}: not a regular file; name another",
         file.path);
  }
  for (const std::string& input : inputs) {
    if (!IsSame(path, input)) continue;
    Fail(ErrorKind::kUserInput,
         "{}: is read by this command; name another file", file.path);
  }
  const bool ours = !exists || IsOfKind(path, kind);
  const fs::path parent = fs::absolute(path).parent_path();
  for (const std::string& model : models) {
    const bool beside = kind.weights && IsSame(parent, model);
    if (!beside && (ours || !IsIn(path, model))) continue;
    Fail(ErrorKind::kUserInput,
         "{}: lies in the model's folder; name a file elsewhere", file.path);
  }
  if (ours || file.force) return;
  Fail(ErrorKind::kUserInput,
       "{}: exists, and is not {}; name another file, or overwrite it with "
       "--force",
       file.path, kind.name);
}

}  // namespace mobe
