// Content hashes: XXH3, 128 bits (libxxhash). They notice change and damage;
// they are no defence against a forger.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace mobe {

// 32 hexadecimal digits.
std::string HashBytes(std::span<const std::byte> bytes);

// Hash of a whole file. Its pages do not stay in memory.
std::string HashFile(const std::filesystem::path& path);

}  // namespace mobe
