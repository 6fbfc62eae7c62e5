// What the tests of all folders share.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace mobe {

// A new empty folder, removed at the end. In memory where Linux offers it: on a
// disk most of a test's time would be fsync.
class TempFolder {
 public:
  TempFolder() {
    std::string name =
        (::access("/dev/shm", W_OK) == 0 ? "/dev/shm/" : ::testing::TempDir()) +
        "mobe_XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error(name);
    path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { std::filesystem::remove_all(path_); }

  std::filesystem::path operator/(std::string_view name) const {
    return path_ / name;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A file or folder of the repository, wherever the tests run.
std::filesystem::path SourcePath(std::string_view name);

inline void WriteText(const std::filesystem::path& path,
                      std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

// What a clone has in the place of a file, where Git LFS is not installed.
inline constexpr char kLfsPointer[] =
    "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";

// The error that `run` ends with, if any. No other exception may come.
inline std::optional<Error> ErrorOf(const std::function<void()>& run) {
  try {
    run();
    return std::nullopt;
  } catch (const Error& e) {
    return e;
  }
}

// Expects that `run` fails, by `kind` and with `text` in the message.
inline void ExpectError(ErrorKind kind, std::string_view text,
                        const std::function<void()>& run) {
  const auto error = ErrorOf(run);
  ASSERT_TRUE(error) << "no error, expected: " << text;
  EXPECT_EQ(error->kind(), kind) << error->what();
  EXPECT_NE(std::string_view(error->what()).find(text), text.npos)
      << error->what() << "\nexpected: " << text;
}

}  // namespace mobe
