// A thread of its own, or an error in words.
#pragma once

#include <system_error>
#include <thread>
#include <utility>

#include "base/error.h"

namespace mobe {

// Fails with kOutOfMemory when the system starts no more threads.
template <class Body>
std::thread StartThread(Body body) {
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
