// What this process may still take: of its own limits (ulimit), of those of its
// control groups (containers; versions 1 and 2) and of the machine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>

namespace mobe {

struct MemoryBound {
  int64_t bytes = std::numeric_limits<int64_t>::max();
  std::string whose;  // for messages: "ulimit -v", "cgroup /docker/8a1", ...

  void Lower(int64_t other, const std::string& other_whose);
};

struct Limits {
  // Bytes that may still be touched until somebody is killed. Page cache counts
  // as free, since it is given up first; swap counts as memory of the machine,
  // not of a control group.
  MemoryBound memory;
  // Bytes that may still be mapped, touched or not.
  MemoryBound address_space;
  // That may run at the same time: the affinity mask, or a quota (1.5, say).
  double cpus = 1;
  // That may still be started. RLIMIT_NPROC, which counts all processes of the
  // user, is not in it: it shows when it is reached.
  int64_t threads = std::numeric_limits<int64_t>::max();

  // The tighter bound of what is mapped and touched.
  MemoryBound Memory() const;
};

// Of nested control groups the tightest counts. `root` stands for / where the
// kernel's files are read: a test has its own.
Limits ReadLimits(const std::filesystem::path& root = "/");

// As many as may run at the same time, and fewer where there is no room for
// their stacks and buffers; at least 1.
int DefaultThreads(const Limits& limits);

// Fails with kOutOfMemory when `bytes` of memory are more than there are:
// "WHAT needs about X, Y are available (limit: ...)". To be asked before work
// that would end in a kill.
void CheckMemory(int64_t bytes, const std::string& what);

// From now on an allocation fails when it can't be touched within the limits of
// the control groups, which would kill the process later. To be called once, at
// start. Without such limits it does nothing.
void FailRatherThanBeKilled();

// Says that so much is going to be mapped that is hardly touched (stacks,
// buffers of BLAS), and does not count.
void MapWithoutCounting(int64_t bytes);

}  // namespace mobe
