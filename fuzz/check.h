// What every fuzz target demands.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"

namespace mobe {

inline void Check(bool condition) {
  if (!condition) std::abort();
}

// Runs `body`; an input may be refused, with a message fit for a terminal, but
// nothing else may happen.
template <class Body>
void AllowRefusal(const Body& body) {
  try {
    body();
  } catch (const Error& e) {
    Check(e.kind() != ErrorKind::kInternal);
    const std::string_view message = e.what();
    Check(message.size() < 1000);
    for (const char c : message) Check(static_cast<uint8_t>(c) >= 0x20);
  }
}

}  // namespace mobe
