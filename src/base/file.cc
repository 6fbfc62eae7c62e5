#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/lfs.h"
#include "base/progress.h"
#include "base/visible.h"

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

[[noreturn]] void FailToOpen(const std::filesystem::path& path) {
  const int error = errno;
  std::error_code none;
  if (error == ENOENT && std::filesystem::is_symlink(path, none)) {
    Fail(ErrorKind::kMissing, "{}: {}", path.string(), Absence(path));
  }
  errno = error;
  FailErrno("cannot open", path);
}

void CheckReached(const std::error_code& error,
                  const std::filesystem::path& path) {
  if (!error) return;
  Fail(ErrorKind::kUserInput, "{}: cannot be reached: {}", path.string(),
       error.message());
}

// Not found is an answer, too.
std::filesystem::file_type TypeOf(const std::filesystem::path& path) {
  std::error_code error;
  const auto type = std::filesystem::status(path, error).type();
  if (type == std::filesystem::file_type::none) CheckReached(error, path);
  return type;
}

void SyncFolder(const std::filesystem::path& folder) {
  const std::filesystem::path target = folder.empty() ? "." : folder;
  const int fd = ::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) FailErrno("cannot open the folder", target);
  const int result = ::fsync(fd);
  ::close(fd);
  if (result != 0) FailErrno("cannot sync the folder", target);
}

struct Descriptor {
  const int value;
  explicit Descriptor(int fd) : value(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    const int error = errno;  // that of the failure which ends the scope
    if (value >= 0) ::close(value);
    errno = error;
  }
};

// For MappedFileAt, which may take no lock.
std::array<std::atomic<const MappedFile::Map*>, 4096> g_maps;

void Register(const MappedFile::Map* map) {
  for (auto& place : g_maps) {
    const MappedFile::Map* none = nullptr;
    if (place.compare_exchange_strong(none, map)) return;
  }
}

void Unregister(const MappedFile::Map* map) {
  for (auto& place : g_maps) {
    const MappedFile::Map* expected = map;
    if (place.compare_exchange_strong(expected, nullptr)) return;
  }
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  auto map = std::make_unique<Map>();
  map->path = path;
  // A FIFO waits for its other end unless told not to.
  const Descriptor fd(
      ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (fd.value < 0 && errno != ENXIO) FailToOpen(path);
  struct stat info {};
  if (fd.value < 0 || ::fstat(fd.value, &info) != 0 || !S_ISREG(info.st_mode)) {
    Fail(ErrorKind::kMissing, "{}: not a regular file", path.string());
  }
  map->size = static_cast<size_t>(info.st_size);
  if (map->size > 0) {
    void* data = ::mmap(nullptr, map->size, PROT_READ, MAP_SHARED, fd.value, 0);
    if (data == MAP_FAILED) FailErrno("cannot map", path);
    map->data = static_cast<const std::byte*>(data);
  }
  map_ = std::move(map);
  Register(map_.get());
}

MappedFile::MappedFile(MappedFile&& other) noexcept = default;

MappedFile::~MappedFile() {
  if (map_ == nullptr) return;
  Unregister(map_.get());
  if (map_->data != nullptr) {
    ::munmap(const_cast<std::byte*>(map_->data), map_->size);
  }
}

bool IsNamed(const std::filesystem::path& path) {
  std::error_code error;
  const auto type = std::filesystem::symlink_status(path, error).type();
  if (type == std::filesystem::file_type::none) CheckReached(error, path);
  return type != std::filesystem::file_type::not_found;
}

bool Exists(const std::filesystem::path& path) {
  return TypeOf(path) != std::filesystem::file_type::not_found;
}

bool IsFolder(const std::filesystem::path& path) {
  return TypeOf(path) == std::filesystem::file_type::directory;
}

bool IsFile(const std::filesystem::path& path) {
  return TypeOf(path) == std::filesystem::file_type::regular;
}

std::vector<std::string> ListFolder(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  while (!error && entry != std::filesystem::directory_iterator()) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
  }
  CheckReached(error, folder);
  std::ranges::sort(names);
  return names;
}

FileStamp StampOf(const std::filesystem::path& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  CheckReached(error, path);
  const auto time = std::filesystem::last_write_time(path, error);
  CheckReached(error, path);
  return {static_cast<int64_t>(bytes), time.time_since_epoch().count()};
}

std::string Absence(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::path target =
      std::filesystem::read_symlink(path, error);
  return error
             ? "not there"
             : fmt::format("a link to {}, which is not there", target.string());
}

const char* MappedFileAt(const void* address) {
  const auto* at = static_cast<const std::byte*>(address);
  for (const std::atomic<const MappedFile::Map*>& place : g_maps) {
    const MappedFile::Map* map = place.load();
    if (map == nullptr || map->data == nullptr) continue;
    // To the end of the last page.
    if (at >= map->data && at < map->data + (map->size | 4095) + 1) {
      return map->path.c_str();
    }
  }
  return nullptr;
}

void MappedFile::Evict(std::span<const std::byte> range) const {
  if (range.empty()) return;
  const auto& [path, data, size] = *map_;
  // A fault maps the cached pages of a whole aligned window (Linux's
  // fault_around_bytes); what is left of those would add up to megabytes.
  constexpr size_t kWindow = 64 << 10;
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto map = reinterpret_cast<uintptr_t>(data);
  const auto begin = reinterpret_cast<uintptr_t>(range.data());
  const uintptr_t first = std::max(begin / kWindow * kWindow, map);
  const uintptr_t last =
      std::min((begin + range.size() + kWindow - 1) / kWindow * kWindow,
               (map + size + page - 1) / page * page);
  // A hint: failure costs memory, not correctness.
  (void)::madvise(const_cast<std::byte*>(data) + (first - map), last - first,
                  MADV_DONTNEED);
}

std::string ReadSmallFile(const std::filesystem::path& path,
                          uint64_t max_bytes) {
  const MappedFile file(path);
  CheckNoLfsPointer(file);
  const auto bytes = file.bytes();
  if (bytes.size() > max_bytes) {
    Fail(ErrorKind::kCorruptFile, "{}: {} bytes, at most {} expected",
         path.string(), FormatCount(static_cast<int64_t>(bytes.size())),
         FormatCount(static_cast<int64_t>(max_bytes)));
  }
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string ReadInput(const std::filesystem::path& path, uint64_t max_bytes) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_NOCTTY | O_CLOEXEC));
  if (fd.value < 0) FailToOpen(path);
  constexpr size_t kPiece = 1 << 16;
  std::string text;
  for (;;) {
    const size_t had = text.size();
    text.resize(had + kPiece);
    const ssize_t read = ::read(fd.value, text.data() + had, kPiece);
    text.resize(had + static_cast<size_t>(std::max<ssize_t>(read, 0)));
    if (read == 0) return text;
    if (read < 0 && errno != EINTR) FailErrno("cannot read", path);
    if (text.size() > max_bytes) {
      Fail(ErrorKind::kUserInput, "{}: more than {}, which is too much to read",
           path.string(), FormatBytes(static_cast<double>(max_bytes)));
    }
  }
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
    const bool asked =
        ::fstat(fd, &held) == 0 && ::stat(path.c_str(), &named) == 0;
    const int error = asked ? 0 : errno;
    if (asked && held.st_ino == named.st_ino && held.st_dev == named.st_dev) {
      return {fd, 0};
    }
    ::close(fd);
    // A disk that gives no answer may never give one.
    if (!asked && error != ENOENT) return {-1, error};
  }
}

AtomicFile::AtomicFile(const std::filesystem::path& path)
    : path_(path), temporary_(path.string() + std::string(kTemporaryEnding)) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
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
