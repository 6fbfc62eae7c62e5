#include "base/hash.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "base/file.h"

namespace mobe {
namespace {

std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The standard's own examples (FIPS 180-4).
TEST(HashTest, IsSha256) {
  EXPECT_EQ(HashBytes({}),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(HashBytes(BytesOf("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(HashTest, FilesInPieces) {
  const std::string path =
      ::testing::TempDir() + "mobe_hash_test_" + std::to_string(::getpid());
  const std::string text((16u << 20) + 5, 'x');  // more than one piece
  const std::string_view parts[] = {"", text};
  for (const std::string_view part : parts) {
    WriteFileAtomically(path, part);
    EXPECT_EQ(HashFile(path), HashBytes(BytesOf(part)));
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace mobe
