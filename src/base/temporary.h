// What is there only for the length of a scope.
#pragma once

#include <filesystem>
#include <new>
#include <system_error>
#include <utility>

namespace mobe {

// The file or folder is removed at the end, however it comes; nothing is when
// the path is empty.
struct Temporary {
  std::filesystem::path path;

  explicit Temporary(std::filesystem::path of) : path(std::move(of)) {}
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() {
    std::error_code ignored;
    try {
      if (!path.empty()) std::filesystem::remove_all(path, ignored);
    } catch (const std::bad_alloc&) {  // then it stays
    }
  }
};

}  // namespace mobe
