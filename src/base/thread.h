// A thread of its own, or an error in words.
#pragma once

#include <cstdint>
#include <system_error>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/limits.h"

namespace mobe {

// Of a thread, mapped when it starts and hardly touched.
inline constexpr int64_t kThreadStackBytes = int64_t{8} << 20;

// Fails with kOutOfMemory when the system starts no more threads.
template <class Body>
std::thread StartThread(Body body) {
  MapWithoutCounting(kThreadStackBytes);
  try {
    return std::thread(std::move(body));
  } catch (const std::system_error& e) {
    Fail(ErrorKind::kOutOfMemory,
         "cannot start a thread ({}); raise the limit of processes (ulimit -u, "
         "pids of a container) or of address space (ulimit -v)",
         e.code().message());
  }
}

}  // namespace mobe
