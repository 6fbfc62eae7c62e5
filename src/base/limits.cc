#include "base/limits.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/progress.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// Whose limit RLIMIT_DATA stands for, when FailRatherThanBeKilled has set it.
std::string g_data_limit_of;  // NOLINT(cert-err58-cpp): empty

std::string Line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

// The number in a file of a control group; "max" and what is not there are
// none.
std::optional<int64_t> Number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::optional<int64_t> NumberIn(const fs::path& file) {
  return Number(Line(file));
}

// The lines "key value" or "key: value kB" of a file.
std::map<std::string, int64_t> Table(const fs::path& file) {
  std::map<std::string, int64_t> table;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string key;
    std::string unit;
    int64_t value = 0;
    if (!(words >> key >> value)) continue;
    if (key.ends_with(':')) key.pop_back();
    table[key] = words >> unit && unit == "kB" ? value * 1024 : value;
  }
  return table;
}

// Whether "rw,cpu,cpuacct" has "cpu".
bool Lists(std::string_view names, std::string_view name) {
  return fmt::format(",{},", names).find(fmt::format(",{},", name)) !=
         std::string::npos;
}

// A control group of this process and those above it, innermost first.
struct Groups {
  std::vector<fs::path> folders;
  std::string name;  // of the innermost, as /proc/self/cgroup has it
};

// Where the file system of a hierarchy is mounted, and which group it shows
// there: not the topmost in a container without a namespace of its own.
struct Mount {
  std::string point;
  std::string group;
};

// The mount of `controller`, or of version 2 when it is empty.
std::optional<Mount> FindMount(const fs::path& root,
                               std::string_view controller) {
  std::ifstream in(root / "proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    // 35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before(line.substr(0, dash));
    std::istringstream after(line.substr(dash + 3));
    std::string skipped;
    std::string type;
    std::string options;
    Mount mount;
    before >> skipped >> skipped >> skipped >> mount.group >> mount.point;
    after >> type >> skipped >> options;
    const bool found = controller.empty()
                           ? type == "cgroup2"
                           : type == "cgroup" && Lists(options, controller);
    if (found) return mount;
  }
  return std::nullopt;
}

Groups FindGroups(const fs::path& root, std::string_view controller) {
  Groups groups;
  const std::optional<Mount> mount = FindMount(root, controller);
  if (!mount) return groups;
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    // 4:memory:/docker/8a1, or 0::/docker/8a1 of version 2
    const size_t first = std::min(line.find(':'), line.size() - 1);
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    if (controller.empty() ? names.empty() : Lists(names, controller)) {
      groups.name = line.substr(second + 1);
    }
  }
  std::string below = groups.name;
  // What the mount does not show is above what can be asked.
  const std::string& shown = mount->group;
  if (shown != "/") {
    below = below.starts_with(shown) ? below.substr(shown.size()) : "";
  }
  if (below.find("..") != std::string::npos) below.clear();
  const fs::path point = root / fs::path(mount->point).relative_path();
  fs::path folder = fs::path(below).relative_path();
  for (; !folder.empty(); folder = folder.parent_path()) {
    groups.folders.push_back(point / folder);
  }
  groups.folders.push_back(point);
  return groups;
}

// The files of the two versions.
struct Version {
  const char* memory_controller;
  const char* memory_limit;
  const char* memory_usage;
  const char* inactive_file;  // in memory.stat
  const char* active_file;
  const char* pids_controller;
  const char* cpu_controller;
};
constexpr Version kVersions[] = {
    {"memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
     "total_inactive_file", "total_active_file", "pids", "cpu"},
    {"", "memory.max", "memory.current", "inactive_file", "active_file", "",
     ""},
};

MemoryBound GroupMemory(const fs::path& root) {
  MemoryBound bound;
  for (const Version& version : kVersions) {
    const Groups groups = FindGroups(root, version.memory_controller);
    for (const fs::path& folder : groups.folders) {
      const auto limit = NumberIn(folder / version.memory_limit);
      const auto usage = NumberIn(folder / version.memory_usage);
      // Version 1 writes "none" as a number of nearly 2^63.
      if (!limit || !usage || *limit > INT64_MAX / 2) continue;
      auto stat = Table(folder / "memory.stat");
      const int64_t cache =
          stat[version.inactive_file] + stat[version.active_file];
      bound.Lower(*limit - std::max<int64_t>(*usage - cache, 0),
                  "cgroup " + groups.name);
    }
  }
  return bound;
}

int64_t GroupThreads(const fs::path& root) {
  int64_t threads = std::numeric_limits<int64_t>::max();
  for (const Version& version : kVersions) {
    for (const fs::path& folder :
         FindGroups(root, version.pids_controller).folders) {
      const auto limit = NumberIn(folder / "pids.max");
      const auto now = NumberIn(folder / "pids.current");
      if (limit && now) {
        threads = std::min(threads, std::max<int64_t>(*limit - *now, 0));
      }
    }
  }
  return threads;
}

double GroupCpus(const fs::path& root) {
  double cpus = std::numeric_limits<double>::infinity();
  for (const Version& version : kVersions) {
    for (const fs::path& folder :
         FindGroups(root, version.cpu_controller).folders) {
      // "max 100000" or "150000 100000"
      const std::string both = Line(folder / "cpu.max");
      auto quota = Number(both);
      const std::string_view all = both;
      auto period = Number(all.substr(std::min(all.find(' ') + 1, all.size())));
      if (both.empty()) {
        quota = NumberIn(folder / "cpu.cfs_quota_us");
        period = NumberIn(folder / "cpu.cfs_period_us");
      }
      if (!quota || !period || *quota <= 0 || *period <= 0) continue;
      cpus = std::min(
          cpus, static_cast<double>(*quota) / static_cast<double>(*period));
    }
  }
  return cpus;
}

double AffinityCpus() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof mask, &mask) == 0) return CPU_COUNT(&mask);
  // More than the mask has room for.
  return static_cast<double>(std::max(::sysconf(_SC_NPROCESSORS_ONLN), 1L));
}

// The soft limit, when there is one.
std::optional<int64_t> Soft(__rlimit_resource resource) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
      limit.rlim_cur > static_cast<rlim_t>(INT64_MAX)) {
    return std::nullopt;
  }
  return static_cast<int64_t>(limit.rlim_cur);
}

void SetDataLimit(int64_t bytes) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_DATA, &limit) != 0) return;
  limit.rlim_cur = std::min(static_cast<rlim_t>(bytes), limit.rlim_max);
  (void)::setrlimit(RLIMIT_DATA, &limit);
}

}  // namespace

void MemoryBound::Lower(int64_t other, const std::string& other_whose) {
  if (other >= bytes) return;
  bytes = std::max<int64_t>(other, 0);
  whose = other_whose;
}

MemoryBound Limits::Memory() const {
  MemoryBound bound = memory;
  bound.Lower(address_space.bytes, address_space.whose);
  return bound;
}

Limits ReadLimits(const fs::path& root) {
  Limits limits;
  auto machine = Table(root / "proc/meminfo");
  if (machine.contains("MemAvailable")) {
    limits.memory.Lower(machine["MemAvailable"] + machine["SwapFree"],
                        "the machine's memory");
  }
  const MemoryBound group = GroupMemory(root);
  limits.memory.Lower(group.bytes, group.whose);
  auto status = Table("/proc/self/status");
  if (const auto limit = Soft(RLIMIT_AS)) {
    limits.address_space.Lower(*limit - status["VmSize"], "ulimit -v");
  }
  if (const auto limit = Soft(RLIMIT_DATA)) {
    limits.address_space.Lower(
        *limit - status["VmData"],
        g_data_limit_of.empty() ? "ulimit -d" : g_data_limit_of);
  }
  limits.cpus = std::min(AffinityCpus(), GroupCpus(root));
  limits.threads = GroupThreads(root);
  return limits;
}

int DefaultThreads(const Limits& limits) {
  // A stack, an arena of malloc, a buffer of BLAS: 8, 64 and 128 MiB that are
  // mapped and hardly touched.
  constexpr int64_t kMapped = int64_t{256} << 20;
  const auto cpus = static_cast<int64_t>(std::floor(limits.cpus));
  // The calling thread is one of them, and is there.
  const int64_t startable =
      limits.threads == INT64_MAX ? limits.threads : limits.threads + 1;
  return static_cast<int>(std::max<int64_t>(
      std::min({cpus, startable, limits.address_space.bytes / kMapped}), 1));
}

void CheckMemory(int64_t bytes, const std::string& what) {
  const MemoryBound bound = ReadLimits().Memory();
  if (bytes <= bound.bytes) return;
  Fail(ErrorKind::kOutOfMemory,
       "{} needs about {}, {} are available (limit: {})", what,
       FormatBytes(static_cast<double>(bytes)),
       FormatBytes(static_cast<double>(bound.bytes)), bound.whose);
}

void FailRatherThanBeKilled() {
  const MemoryBound group = GroupMemory("/");
  if (group.bytes == std::numeric_limits<int64_t>::max()) return;
  const auto before = Soft(RLIMIT_DATA);
  // For the kernel's own (page tables), and so that code and weights, which are
  // mapped and come and go, find some room.
  constexpr int64_t kLeast = int64_t{4} << 20;
  const int64_t room =
      std::max<int64_t>(group.bytes - group.bytes / 16 - kLeast, 0);
  const int64_t limit = Table("/proc/self/status")["VmData"] + room;
  if (before && *before <= limit) return;
  SetDataLimit(limit);
  g_data_limit_of = group.whose;
}

void MapWithoutCounting(int64_t bytes) {
  if (g_data_limit_of.empty()) return;
  if (const auto limit = Soft(RLIMIT_DATA)) SetDataLimit(*limit + bytes);
}

}  // namespace mobe
