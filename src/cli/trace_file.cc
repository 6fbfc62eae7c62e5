#include "cli/trace_file.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

fs::path FolderOf(const std::string& path) {
  return fs::weakly_canonical(fs::absolute(path)).parent_path();
}

}  // namespace

TraceFile::TraceFile(const OutputFile& file, const std::string& out,
                     bool continues)
    : path_(file.path), continues_(continues) {
  if (path_.empty()) return;
  const fs::path folder = FolderOf(path_);
  if (folder == FolderOf(out + "/any")) {
    Fail(ErrorKind::kUserInput,
         "--trace {}: lies in the output folder; name a file elsewhere", path_);
  }
  const fs::path place = Exists(path_) ? fs::path(path_) : folder;
  if (::access(place.c_str(), W_OK) != 0) {
    Fail(ErrorKind::kUserInput, "--trace {}: cannot be written: {}: {}", path_,
         place.string(), std::strerror(errno));
  }
}

void TraceFile::Add(int64_t layer, const std::string& kind, int64_t pass,
                    double seconds, double mse) {
  if (path_.empty()) return;
  const std::string matrix = fmt::format("{},{},", layer, kind);
  if (matrices_.insert(matrix).second && (continues_ || !is_written())) {
    Open(continues_ ? RowsWithout(matrix) : "");
  }
  Write(fmt::format("{}{},{:.4f},{:.9g}\n", matrix, pass, seconds, mse));
}

void TraceFile::Close() {
  if (!is_written()) return;
  file_.close();
  Write("");
}

void TraceFile::Write(const std::string& text) {
  if (file_ << text) return;
  Fail(ErrorKind::kDiskFull, "--trace {}: cannot be written", path_);
}

void TraceFile::Open(const std::string& kept) {
  file_.close();
  file_.open(path_);
  Write(std::string(kTraceOutput.bytes) + kept);
}

std::string TraceFile::RowsWithout(const std::string& matrix) {
  file_.flush();
  std::ifstream file(path_);
  std::string rows;
  std::string line;
  std::getline(file, line);  // the header
  while (std::getline(file, line)) {
    if (!line.starts_with(matrix)) rows += line + "\n";
  }
  return rows;
}

}  // namespace mobe
