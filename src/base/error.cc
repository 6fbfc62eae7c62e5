#include "base/error.h"

#include "base/visible.h"

namespace mobe {

const char* ErrorKindName(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUserInput:
      return "invalid input";
    case ErrorKind::kCorruptFile:
      return "corrupt file";
    case ErrorKind::kMissing:
      return "missing";
    case ErrorKind::kUnsupported:
      return "unsupported";
    case ErrorKind::kOutOfMemory:
      return "out of memory";
    case ErrorKind::kDiskFull:
      return "disk full";
    case ErrorKind::kInternal:
      return "internal error";
  }
  return "unknown error";
}

std::string OneLine(std::string message) {
  constexpr size_t kMaxBytes = 2000;  // a path takes up to 4096, but none does
  // Cut before, too: not all of a name of a gigabyte is looked at.
  return CutMiddle(Visible(CutMiddle(std::move(message), kMaxBytes)),
                   kMaxBytes);
}

}  // namespace mobe
