// Content hashes: SHA-256 (OpenSSL's libcrypto). Slower than a checksum that is
// no cryptographic one, about 2 GB/s a core where the processor has
// instructions for it, but everybody can check it: sha256sum prints it, and
// Hugging Face shows it of every large file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace mobe {

// What a file is known by.
struct FileSum {
  int64_t bytes = 0;
  std::string sha256;  // 64 hexadecimal digits
};

// The hash of what comes in pieces.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void Add(std::span<const std::byte> bytes);
  // 64 hexadecimal digits; ends it.
  std::string Hex();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

// 64 hexadecimal digits.
std::string HashBytes(std::span<const std::byte> bytes);

// Hash of a whole file. Its pages do not stay in memory.
std::string HashFile(const std::filesystem::path& path);

}  // namespace mobe
