// The one exception type of the project.
//
// A message is one line for a person: what failed, where (file, tensor), what
// was expected, and what to do when that is not obvious. The library throws;
// only src/cli prints and chooses an exit code.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace mobe {

enum class ErrorKind {
  kUserInput,    // an option or argument that can't be right
  kCorruptFile,  // a file that breaks its own format
  kMissing,      // a file or tensor that should be there
  kUnsupported,  // well formed, but mobe can't do it
  kOutOfMemory,  // would need, or did need, more memory than there is
  kDiskFull,     // the same of disk space
  kInternal,     // a bug in mobe
};

// "corrupt file" and so on, for messages and JSON.
const char* ErrorKindName(ErrorKind kind);

// `message` on one line: what a hostile file may bring in with a name is
// written out (visible.h), and what is too long, over 2000 bytes, loses its
// middle.
std::string OneLine(std::string message);

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string message)
      : std::runtime_error(OneLine(std::move(message))), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// Throws Error with a formatted message.
template <class... Args>
[[noreturn]] void Fail(ErrorKind kind, fmt::format_string<Args...> format,
                       Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace mobe
