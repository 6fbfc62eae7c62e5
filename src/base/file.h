// Files: mapped for reading, atomic for writing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace mobe {

// A whole file, mapped read-only. The pages are the kernel's: reading faults
// them in, Evict lets them go. A file that another process truncates while it
// is mapped ends in SIGBUS, as with every program that maps its input.
class MappedFile {
 public:
  // Fails with kMissing when there is no such regular file.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

  // Drops the pages of `range` (a part of bytes()), and what was mapped around
  // them, from this process; they are read again when touched.
  void Evict(std::span<const std::byte> range) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A small file's contents; kCorruptFile above `max_bytes`, kMissing for LFS.
std::string ReadSmallFile(const std::filesystem::path& path,
                          uint64_t max_bytes = 256u << 20);

// A file that appears under its name whole and durable, or not at all: written
// to `path`.tmp, then fsync, rename, fsync of the folder. A full disk or any
// other failure throws and removes the temporary file.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void Write(std::span<const std::byte> bytes);
  void Write(std::string_view text) {
    Write(std::as_bytes(std::span(text.data(), text.size())));
  }
  void Commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
};

// AtomicFile in one call.
void WriteFileAtomically(const std::filesystem::path& path,
                         std::string_view text);

// Creates the folder and its parents; fails with kUserInput when it can't.
void MakeFolder(const std::filesystem::path& path);

}  // namespace mobe
