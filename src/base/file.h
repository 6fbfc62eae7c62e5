// Files: mapped for reading, atomic for writing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"

namespace mobe {

// A whole file, mapped read-only. The pages are the kernel's: reading faults
// them in, Evict lets them go. A file that another process truncates while it
// is mapped, or whose disk fails, ends in SIGBUS: see MappedFileAt.
class MappedFile {
 public:
  // Fails with kMissing when there is no such regular file; doesn't wait for
  // the other end of a FIFO.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {map_->data, map_->size}; }
  const std::filesystem::path& path() const { return map_->path; }

  // Drops the pages of `range` (a part of bytes()), and what was mapped around
  // them, from this process; they are read again when touched.
  void Evict(std::span<const std::byte> range) const;

  struct Map {
    std::filesystem::path path;
    const std::byte* data = nullptr;
    size_t size = 0;
  };

 private:
  std::unique_ptr<const Map> map_;
};

// These six fail with kUserInput where the file system gives no answer (its
// disk fails, a folder may not be entered): a journal that took this for "not
// there" would begin its job anew.

// True of a link that points nowhere, too: what opens it then says so, whereas
// what is absent is passed over.
bool IsNamed(const std::filesystem::path& path);

// Whether a path leads to anything, to a folder, to a file.
bool Exists(const std::filesystem::path& path);
bool IsFolder(const std::filesystem::path& path);
bool IsFile(const std::filesystem::path& path);

// The names in a folder, sorted.
std::vector<std::string> ListFolder(const std::filesystem::path& folder);

struct FileStamp {
  int64_t bytes = 0;
  int64_t time = 0;  // of the last change, as std::filesystem counts
};
FileStamp StampOf(const std::filesystem::path& path);

// Why a path leads to no file: "not there", or "a link to X, which is not
// there".
std::string Absence(const std::filesystem::path& path);

// The name of the mapped file that has this address, or null. For a handler of
// SIGBUS: takes no lock and no memory. Of thousands of files at once it knows
// the first.
const char* MappedFileAt(const void* address);

// The contents of a small file of a model; fails with kCorruptFile above
// `max_bytes`, with kMissing for a pointer of Git LFS, and as MappedFile.
std::string ReadSmallFile(const std::filesystem::path& path,
                          uint64_t max_bytes = 256u << 20);

// What the user gives to be read once, from a file or a pipe (/dev/stdin,
// <(zcat f.gz)): waits for its end. Fails with kUserInput above `max_bytes`,
// and with kMissing.
std::string ReadInput(const std::filesystem::path& path,
                      uint64_t max_bytes = 256u << 20);

// How files end that AtomicFile writes; nobody else's do.
inline constexpr std::string_view kTemporaryEnding = ".mobe-tmp";

// A file that appears under its name whole and durable, or not at all: written
// to a temporary name, then fsync, rename, fsync of the folder. Any failure
// throws and removes the temporary file. What a killed process left is used by
// the next one that writes the same file: it is locked while somebody writes
// it, so that two never share it; the second fails with kUserInput.
class AtomicFile {
 public:
  // Fails with kUserInput when `path` is there and no regular file, a link
  // among others: renaming would replace it, not what it points to.
  explicit AtomicFile(const std::filesystem::path& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void Write(std::span<const std::byte> bytes);
  void Write(std::string_view text) {
    Write(std::as_bytes(std::span(text.data(), text.size())));
  }
  // What it holds, hashed as it was written.
  FileSum Commit();

 private:
  void Abandon();

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
  int64_t bytes_ = 0;
  Sha256 hash_;
};

// AtomicFile in one call.
FileSum WriteFileAtomically(const std::filesystem::path& path,
                            std::string_view text);

// A file opened (made, if it is not there) and locked for this process, until
// it is closed.
struct LockedFile {
  int fd = -1;    // -1: not opened, or held by another process
  int error = 0;  // EWOULDBLOCK: held; with a valid fd: it can't be locked
};
LockedFile OpenLocked(const std::filesystem::path& path);

// Creates the folder and its parents; fails with kUserInput when it can't.
void MakeFolder(const std::filesystem::path& path);

}  // namespace mobe
