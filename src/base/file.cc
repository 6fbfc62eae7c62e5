#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "base/error.h"
#include "base/lfs.h"

namespace mobe {
namespace {

[[noreturn]] void FailErrno(const char* what,
                            const std::filesystem::path& path) {
  const int error = errno;
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    Fail(ErrorKind::kDiskFull,
         "{}: {}: {}; make room there and run the same command again",
         path.string(), what, std::strerror(error));
  }
  const ErrorKind kind =
      error == ENOENT ? ErrorKind::kMissing : ErrorKind::kUserInput;
  Fail(kind, "{}: {}: {}", path.string(), what, std::strerror(error));
}

void SyncFolder(const std::filesystem::path& folder) {
  const std::filesystem::path target = folder.empty() ? "." : folder;
  const int fd = ::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) FailErrno("cannot open the folder", target);
  const int result = ::fsync(fd);
  ::close(fd);
  if (result != 0) FailErrno("cannot sync the folder", target);
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) FailErrno("cannot open", path);
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    Fail(ErrorKind::kMissing, "{}: not a regular file", path.string());
  }
  size_ = static_cast<size_t>(info.st_size);
  if (size_ > 0) {
    void* map = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
      const int error = errno;
      ::close(fd);
      errno = error;
      FailErrno("cannot map", path);
    }
    data_ = static_cast<const std::byte*>(map);
  }
  ::close(fd);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::Evict(std::span<const std::byte> range) const {
  if (range.empty()) return;
  // A fault maps the cached pages of a whole aligned window (Linux's
  // fault_around_bytes); what is left of those would add up to megabytes.
  constexpr size_t kWindow = 64 << 10;
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto map = reinterpret_cast<uintptr_t>(data_);
  const auto begin = reinterpret_cast<uintptr_t>(range.data());
  const uintptr_t first = std::max(begin / kWindow * kWindow, map);
  const uintptr_t last =
      std::min((begin + range.size() + kWindow - 1) / kWindow * kWindow,
               (map + size_ + page - 1) / page * page);
  // A hint: failure costs memory, not correctness.
  (void)::madvise(const_cast<std::byte*>(data_) + (first - map), last - first,
                  MADV_DONTNEED);
}

std::string ReadSmallFile(const std::filesystem::path& path,
                          uint64_t max_bytes) {
  const MappedFile file(path);
  CheckNoLfsPointer(file);
  const auto bytes = file.bytes();
  if (bytes.size() > max_bytes) {
    Fail(ErrorKind::kCorruptFile, "{}: {} bytes, at most {} expected",
         path.string(), bytes.size(), max_bytes);
  }
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

LockedFile OpenLocked(const std::filesystem::path& path) {
  for (;;) {
    const int fd =
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return {-1, errno};
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      if (error != EWOULDBLOCK) return {fd, error};
      ::close(fd);
      return {-1, error};
    }
    // Who had it before may have removed or renamed it in between.
    struct stat held {};
    struct stat named {};
    if (::fstat(fd, &held) == 0 && ::stat(path.c_str(), &named) == 0 &&
        held.st_ino == named.st_ino && held.st_dev == named.st_dev) {
      return {fd, 0};
    }
    ::close(fd);
  }
}

AtomicFile::AtomicFile(const std::filesystem::path& path)
    : path_(path), temporary_(path.string() + std::string(kTemporaryEnding)) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    Fail(ErrorKind::kUserInput, "{}: not a regular file; name another",
         path.string());
  }
  const LockedFile locked = OpenLocked(temporary_);
  if (locked.fd < 0 && locked.error == EWOULDBLOCK) {
    Fail(ErrorKind::kUserInput, "{}: another mobe is writing this file",
         path.string());
  }
  // Where files can't be locked, the folder can't be, either (journal.h).
  fd_ = locked.fd;
  errno = locked.error;
  if (fd_ < 0) FailErrno("cannot create", temporary_);
  if (::ftruncate(fd_, 0) != 0) {
    Abandon();
    FailErrno("cannot empty", temporary_);
  }
}

AtomicFile::~AtomicFile() { Abandon(); }

void AtomicFile::Abandon() {
  if (fd_ < 0) return;
  const int error = errno;
  ::unlink(temporary_.c_str());
  ::close(std::exchange(fd_, -1));
  errno = error;
}

void AtomicFile::Write(std::span<const std::byte> bytes) {
  hash_.Add(bytes);
  bytes_ += static_cast<int64_t>(bytes.size());
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      FailErrno("cannot write", temporary_);
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

FileSum AtomicFile::Commit() {
  if (::fsync(fd_) != 0) FailErrno("cannot sync", temporary_);
  // Closing may fail, too; a second descriptor keeps the lock until the end.
  const int other = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (other < 0) FailErrno("cannot sync", temporary_);
  if (::close(std::exchange(fd_, other)) != 0) {
    FailErrno("cannot close", temporary_);
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    FailErrno("cannot rename to its final name", temporary_);
  }
  ::close(std::exchange(fd_, -1));
  SyncFolder(path_.parent_path());
  return {bytes_, hash_.Hex()};
}

FileSum WriteFileAtomically(const std::filesystem::path& path,
                            std::string_view text) {
  AtomicFile file(path);
  file.Write(text);
  return file.Commit();
}

void MakeFolder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    Fail(ErrorKind::kUserInput, "{}: cannot create the folder: {}",
         path.string(), error.message());
  }
}

}  // namespace mobe
