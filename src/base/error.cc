#include "base/error.h"

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

}  // namespace mobe
