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

std::string OneLine(std::string message) {
  constexpr size_t kMaxBytes = 2000;  // a path takes up to 4096, but none does
  constexpr size_t kTail = 500;       // what was expected, what to do
  if (message.size() > kMaxBytes) {
    size_t head = kMaxBytes - kTail;
    size_t tail = message.size() - kTail;
    // Not within a character of UTF-8.
    while (head > 0 && (message[head] & 0xc0) == 0x80) --head;
    while (tail < message.size() && (message[tail] & 0xc0) == 0x80) ++tail;
    message.replace(head, tail - head, " ... ");
  }
  for (char& c : message) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) c = ' ';
  }
  return message;
}

}  // namespace mobe
