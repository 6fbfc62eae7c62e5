// What C++ allocates on a thread, for tests. The program unit_tests counts it;
// sanitizers bring an operator new of their own, so with one nothing is
// counted.
#pragma once

#include <cstddef>

namespace mobe {

struct CountedMemory {
  size_t live = 0;  // bytes
  size_t peak = 0;  // the most that was live
};

// Of this thread; null when nothing is counted.
CountedMemory* ThreadMemory();

}  // namespace mobe
