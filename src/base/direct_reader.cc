#include "base/direct_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/thread.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// Of a piece that ended with the file.
constexpr int kEndsEarly = -1;

int64_t WholeBlocks(int64_t bytes) {
  return (bytes + kDirectAlign - 1) / kDirectAlign * kDirectAlign;
}

// Bytes that were read, -1 with errno.
int64_t ReadBlocks(int fd, int64_t offset, int64_t bytes, std::byte* to) {
  for (;;) {
    const ssize_t got = ::pread(fd, to, static_cast<size_t>(bytes), offset);
    if (got >= 0 || errno != EINTR) return got;
  }
}

[[noreturn]] void FailReading(const fs::path& path, int error) {
  Fail(ErrorKind::kMissing, "{}: cannot be read: {}", path.string(),
       error == kEndsEarly ? "it ends early; was it changed?"
                           : std::strerror(error));
}

}  // namespace

struct DirectReader::File {
  explicit File(int opened) : fd(opened) {}
  File(File&& other) noexcept
      : fd(std::exchange(other.fd, -1)), size(other.size) {}
  File& operator=(File&&) = delete;
  ~File() {
    if (fd >= 0) ::close(fd);
  }
  int fd;
  int64_t size = 0;
};

void FreeAligned::operator()(std::byte* memory) const { std::free(memory); }

AlignedMemory AllocateAligned(int64_t bytes) {
  void* memory =
      std::aligned_alloc(kDirectAlign, static_cast<size_t>(WholeBlocks(bytes)));
  if (memory == nullptr) {
    Fail(ErrorKind::kOutOfMemory, "cannot allocate {} bytes", bytes);
  }
  return AlignedMemory(static_cast<std::byte*>(memory));
}

DirectReader::DirectReader(std::vector<fs::path> paths)
    : paths_(std::move(paths)), direct_(OpenAll(true)) {
  if (!direct_) OpenAll(false);
  try {
    for (int i = 0; i < kInFlight; ++i) {
      threads_.push_back(StartThread([this] { Work(); }));
    }
  } catch (const Error&) {
    // Fewer at a time, then: Wait reads what no thread does.
  }
}

DirectReader::~DirectReader() {
  {
    const Lock lock(mutex_);
    ends_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

int64_t DirectReader::size(int64_t file) const {
  return files_[static_cast<size_t>(file)].size;
}

// False where one of them refuses direct reads.
bool DirectReader::OpenAll(bool direct) {
  files_.clear();
  const AlignedMemory block = AllocateAligned(kDirectAlign);
  for (const fs::path& path : paths_) {
    File& file = files_.emplace_back(
        ::open(path.c_str(), O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0)));
    if (file.fd < 0) {
      if (direct && errno == EINVAL) return false;
      FailReading(path, errno);
    }
    struct stat info {};
    if (::fstat(file.fd, &info) != 0) FailReading(path, errno);
    file.size = info.st_size;
    // Some file systems refuse only the read.
    if (direct && ReadBlocks(file.fd, 0, kDirectAlign, block.get()) < 0) {
      return false;
    }
  }
  return true;
}

void DirectReader::Start(const std::vector<DirectPart>& parts, Urgency urgency,
                         DirectRead* read) {
  {
    const Lock lock(mutex_);
    *read = {};
    std::deque<Piece>& queue = urgency == Urgency::kNow ? now_ : later_;
    for (const DirectPart& part : parts) {
      for (int64_t at = 0; at < part.bytes; at += kDirectRequest) {
        queue.push_back(
            {{part.file, part.offset + at,
              std::min(kDirectRequest, part.bytes - at), part.to + at},
             read});
        ++read->left_;
      }
    }
  }
  work_.notify_all();
}

void DirectReader::Hurry(const DirectRead* read) {
  const Lock lock(mutex_);
  const auto rest =
      std::stable_partition(later_.begin(), later_.end(),
                            [&](const Piece& p) { return p.read != read; });
  now_.insert(now_.end(), rest, later_.end());
  later_.erase(rest, later_.end());
}

void DirectReader::Wait(DirectRead* read) {
  Hurry(read);
  Lock lock(mutex_);
  while (read->left_ > 0) {
    const auto mine = [&](const Piece& piece) { return piece.read == read; };
    const auto found = std::ranges::find_if(now_, mine);
    if (found == now_.end()) {
      done_.wait(lock);
      continue;
    }
    const Piece piece = *found;
    now_.erase(found);
    Read(piece, &lock);
  }
  if (read->error_ != 0) {
    FailReading(paths_[static_cast<size_t>(read->failed_file_)], read->error_);
  }
}

void DirectReader::Work() {
  Lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [&] { return ends_ || !now_.empty() || !later_.empty(); });
    if (ends_) return;
    std::deque<Piece>& queue = now_.empty() ? later_ : now_;
    const Piece piece = queue.front();
    queue.pop_front();
    Read(piece, &lock);
  }
}

// Unlocks while it reads.
void DirectReader::Read(const Piece& piece, Lock* lock) {
  lock->unlock();
  const DirectPart& part = piece.part;
  const int fd = files_[static_cast<size_t>(part.file)].fd;
  int error = 0;
  for (int64_t at = 0; at < part.bytes;) {
    const int64_t got = ReadBlocks(fd, part.offset + at,
                                   WholeBlocks(part.bytes - at), part.to + at);
    if (got <= 0) {
      error = got < 0 ? errno : kEndsEarly;
      break;
    }
    at += got;
    // The kernel ends a direct read within a block at the file's end alone.
    if (at < part.bytes && at % kDirectAlign != 0) {
      error = kEndsEarly;
      break;
    }
  }
  if (!direct_) {
    ::posix_fadvise(fd, part.offset, part.bytes, POSIX_FADV_DONTNEED);
  }
  lock->lock();
  if (error != 0 && piece.read->error_ == 0) {
    piece.read->error_ = error;
    piece.read->failed_file_ = part.file;
  }
  if (--piece.read->left_ == 0) done_.notify_all();
}

}  // namespace mobe
