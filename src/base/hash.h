// Content hashes: SHA-256 (OpenSSL's libcrypto). Slower than a checksum that is
// no cryptographic one, about 2 GB/s a core where the processor has
// instructions for it, but everybody can check it: sha256sum prints it, and
// Hugging Face shows it of every large file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace mobe {

// 64 hexadecimal digits.
std::string HashBytes(std::span<const std::byte> bytes);

// Hash of a whole file. Its pages do not stay in memory.
std::string HashFile(const std::filesystem::path& path);

}  // namespace mobe
