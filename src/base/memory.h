// Memory of this process, as the kernel counts it.
#pragma once

#include <cstdint>

namespace mobe {

struct Resident {
  int64_t all = 0;
  int64_t files = 0;  // of it: code of program and libraries, mapped files
};
Resident ResidentBytes();

// The most that was resident. Not getrusage's: that of a process started by a
// larger one is never less than the larger one's.
int64_t PeakResidentBytes();

}  // namespace mobe
