#include "machine/disk_read.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/progress.h"
#include "base/thread.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRequest = int64_t{2} << 20;
constexpr int64_t kAlign = 4096;  // of memory and places, for O_DIRECT
constexpr int kInFlight = 8;
// Below that the start counts for more than the disk.
constexpr int64_t kFewBytes = int64_t{64} << 20;

class File {
 public:
  // -1 and errno of open() when it can't be.
  File(const fs::path& path, int flags)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags)) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&&) = delete;
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using Aligned = std::unique_ptr<std::byte, Free>;

// For one request; null when there is no memory.
Aligned AllocateAligned() {
  return Aligned(static_cast<std::byte*>(std::aligned_alloc(kAlign, kRequest)));
}

struct Request {
  int fd;
  int64_t place;
  const fs::path* path;
};

[[noreturn]] void FailReading(const fs::path& path) {
  Fail(ErrorKind::kMissing, "{}: cannot be read: {}", path.string(),
       std::strerror(errno));
}

// The bytes of one request, -1 with errno.
int64_t Read(const Request& request, std::byte* memory) {
  for (;;) {
    const ssize_t got = ::pread(request.fd, memory, kRequest, request.place);
    if (got >= 0 || errno != EINTR) return got;
  }
}

// Opens all in one way; none when one of them refuses O_DIRECT.
std::vector<File> OpenAll(const std::vector<fs::path>& paths, bool direct) {
  std::vector<File> files;
  const Aligned memory = AllocateAligned();
  for (const fs::path& path : paths) {
    File file(path, direct ? O_DIRECT : 0);
    if (file.fd() < 0) {
      if (direct && errno == EINVAL) return {};
      FailReading(path);
    }
    // Some file systems refuse only the read.
    if (direct) {
      if (Read({file.fd(), 0, &path}, memory.get()) < 0) return {};
    } else {
      ::posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED);
    }
    files.push_back(std::move(file));
  }
  return files;
}

std::vector<Request> ListRequests(const std::vector<fs::path>& paths,
                                  const std::vector<File>& files) {
  std::vector<Request> requests;
  for (size_t i = 0; i < files.size(); ++i) {
    struct stat info {};
    if (::fstat(files[i].fd(), &info) != 0) FailReading(paths[i]);
    for (int64_t place = 0; place < info.st_size; place += kRequest) {
      requests.push_back({files[i].fd(), place, &paths[i]});
    }
  }
  return requests;
}

}  // namespace

DiskRead MeasureReading(const std::vector<fs::path>& paths, double seconds) {
  DiskRead result;
  std::vector<File> files = OpenAll(paths, true);
  result.direct = !files.empty();
  if (!result.direct) {
    files = OpenAll(paths, false);
    result.note = "the file system refuses direct reads: the page cache counts";
  }
  const std::vector<Request> requests = ListRequests(paths, files);
  std::atomic<size_t> next{0};
  std::atomic<int64_t> bytes{0};
  std::atomic<const Request*> failed{nullptr};
  std::atomic<int> error{0};
  const double start = MonotonicSeconds();
  const auto work = [&] {
    const Aligned memory = AllocateAligned();
    if (memory == nullptr) return;
    while (failed.load() == nullptr && MonotonicSeconds() - start < seconds) {
      const size_t i = next.fetch_add(1);
      if (i >= requests.size()) return;
      const int64_t got = Read(requests[i], memory.get());
      if (got < 0) {
        error = errno;
        failed = &requests[i];
        return;
      }
      bytes += got;
    }
  };
  std::vector<std::thread> threads;
  try {
    for (int t = 1; t < kInFlight; ++t) threads.push_back(StartThread(work));
  } catch (const Error&) {  // fewer at a time, then
  }
  work();
  for (std::thread& thread : threads) thread.join();
  result.seconds = MonotonicSeconds() - start;
  if (failed.load() != nullptr) {
    errno = error;
    FailReading(*failed.load()->path);
  }
  result.bytes = bytes;
  if (result.note.empty() && result.bytes < kFewBytes) {
    result.note = "too small a file to say much";
  }
  return result;
}

}  // namespace mobe
