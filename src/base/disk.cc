#include "base/disk.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/progress.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

fs::path NearestFolder(const fs::path& folder) {
  std::error_code error;
  fs::path path = fs::absolute(folder, error);
  while (!fs::is_directory(path, error) && path.has_relative_path()) {
    path = path.parent_path();
  }
  return path;
}

}  // namespace

int64_t FreeDiskBytes(const fs::path& folder) {
  const fs::path path = NearestFolder(folder);
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) {
    Fail(ErrorKind::kMissing, "{}: cannot ask for its free space: {}",
         path.string(), std::strerror(errno));
  }
  const double bytes =
      static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize);
  // Network file systems may claim more than 63 bits.
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  if (bytes >= static_cast<double>(kMost)) return kMost;
  return static_cast<int64_t>(bytes);
}

int64_t BytesBelow(const fs::path& folder) {
  std::error_code error;
  int64_t bytes = 0;
  // Files may vanish meanwhile, when another process works here.
  for (auto at = fs::recursive_directory_iterator(folder, error);
       !error && at != fs::recursive_directory_iterator();
       at.increment(error)) {
    std::error_code gone;
    if (!at->is_regular_file(gone)) continue;
    const auto size = at->file_size(gone);
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

void CheckDiskSpace(const fs::path& folder, int64_t bytes) {
  const int64_t needed = bytes - BytesBelow(folder);
  const int64_t free = FreeDiskBytes(folder);
  if (needed <= free) return;
  Fail(
      ErrorKind::kDiskFull,
      "{}: needs {} of disk space, {} are free on {}; free some there, or name "
      "a folder elsewhere",
      folder.string(), FormatBytes(static_cast<double>(needed)),
      FormatBytes(static_cast<double>(free)), NearestFolder(folder).string());
}

double MeasureWriting(const fs::path& folder, int64_t bytes) {
  const fs::path path = NearestFolder(folder);
  const int fd = ::open(path.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return 0;
  constexpr int64_t kPiece = 1 << 20;
  constexpr int64_t kMostBytes = 128 << 20;
  constexpr double kMostSeconds = 2;
  const std::vector<char> piece(kPiece, 'x');
  const double start = MonotonicSeconds();
  bool written = true;
  int64_t done = 0;
  while (written && done < std::min(bytes, kMostBytes) &&
         MonotonicSeconds() - start < kMostSeconds) {
    const auto size = static_cast<size_t>(std::min(bytes - done, kPiece));
    written = ::write(fd, piece.data(), size) == static_cast<ssize_t>(size);
    done += static_cast<int64_t>(size);
  }
  written = ::fsync(fd) == 0 && written;
  const double seconds = MonotonicSeconds() - start;
  ::close(fd);
  if (!written || done == 0) return 0;
  return seconds * static_cast<double>(bytes) / static_cast<double>(done);
}

}  // namespace mobe
