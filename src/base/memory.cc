#include "base/memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace mobe {

Resident ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t pages = 0;
  Resident resident;
  file >> pages >> resident.all >> resident.files;
  resident.all *= ::sysconf(_SC_PAGESIZE);
  resident.files *= ::sysconf(_SC_PAGESIZE);
  return resident;
}

int64_t PeakResidentBytes() {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    int64_t kilobytes = 0;
    if (word == "VmHWM:" && file >> kilobytes) return kilobytes * 1024;
  }
  rusage usage{};  // /proc is not mounted
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * int64_t{1024};
}

}  // namespace mobe
