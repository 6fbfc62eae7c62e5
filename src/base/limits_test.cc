#include "base/limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "base/testing.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// A machine of 64 GB, and control groups in the files that are named.
class LimitsTest : public ::testing::Test {
 protected:
  LimitsTest() {
    Write("proc/meminfo",
          "MemTotal: 65000000 kB\nMemAvailable:   64000000 kB\n"
          "SwapFree: 1000 kB\n");
  }

  void Write(const std::string& name, const std::string& text) {
    const fs::path path = root_ / name;
    fs::create_directories(path.parent_path());
    WriteText(path, text);
  }

  void Version1() {
    Write("proc/self/mountinfo",
          "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n"
          "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup "
          "rw,cpu,cpuacct\n"
          "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
          "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
          "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    Write("proc/self/cgroup",
          "8:pids:/a/b\n4:memory:/a/b\n1:cpu,cpuacct:/a/b\n0::/\n");
  }

  void Version2(const std::string& shown, const std::string& group) {
    Write("proc/self/mountinfo", "41 31 0:38 " + shown +
                                     " /sys/fs/cgroup rw,nosuid shared:4 - "
                                     "cgroup2 cgroup2 rw,nsdelegate\n");
    Write("proc/self/cgroup", "0::" + group + "\n");
  }

  void Memory2(const std::string& group, const std::string& max,
               int64_t current) {
    const std::string folder = "sys/fs/cgroup" + group + "/";
    Write(folder + "memory.max", max + "\n");
    Write(folder + "memory.current", std::to_string(current) + "\n");
    Write(folder + "memory.stat",
          "anon 5\nfile 300\ninactive_file 200\nactive_file 100\n");
  }

  Limits Read() const { return ReadLimits(root_.path()); }

  TempFolder root_;
};

TEST_F(LimitsTest, MachineAlone) {
  const Limits limits = Read();
  EXPECT_EQ(limits.memory.bytes, 64001000 * int64_t{1024});
  EXPECT_EQ(limits.memory.whose, "the machine's memory");
  EXPECT_GE(limits.cpus, 1);
  EXPECT_EQ(limits.threads, INT64_MAX);
}

// Page cache is given up before anybody is killed.
TEST_F(LimitsTest, Version1) {
  Version1();
  const std::string memory = "sys/fs/cgroup/memory/a/b/";
  Write(memory + "memory.limit_in_bytes", "100000\n");
  Write(memory + "memory.usage_in_bytes", "60000\n");
  Write(memory + "memory.stat",
        "cache 9\nactive_file 1\ntotal_inactive_file 8000\n"
        "total_active_file 2000\n");
  Write("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "50000\n");
  Write("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
  Write("sys/fs/cgroup/pids/a/b/pids.max", "20\n");
  Write("sys/fs/cgroup/pids/a/b/pids.current", "5\n");
  const Limits limits = Read();
  EXPECT_EQ(limits.memory.bytes, 50000);
  EXPECT_EQ(limits.memory.whose, "cgroup /a/b");
  EXPECT_EQ(limits.cpus, 0.5);
  EXPECT_EQ(limits.threads, 15);
}

TEST_F(LimitsTest, Version1WithoutLimits) {
  Version1();
  for (const char* group : {"", "/a", "/a/b"}) {
    const std::string memory =
        std::string("sys/fs/cgroup/memory") + group + "/";
    Write(memory + "memory.limit_in_bytes", "9223372036854771712\n");
    Write(memory + "memory.usage_in_bytes", "60000\n");
  }
  Write("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
  Write("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
  Write("sys/fs/cgroup/pids/a/b/pids.max", "max\n");
  Write("sys/fs/cgroup/pids/a/b/pids.current", "5\n");
  const Limits limits = Read();
  EXPECT_EQ(limits.memory.whose, "the machine's memory");
  EXPECT_GE(limits.cpus, 1);
  EXPECT_EQ(limits.threads, INT64_MAX);
}

// The tightest of the groups above counts, whoever else is in it.
TEST_F(LimitsTest, Version2Nested) {
  Version2("/", "/pod/app");
  Memory2("/pod/app", "max", 1000);
  Memory2("/pod", "90000", 80300);
  Write("sys/fs/cgroup/pod/app/cpu.max", "400000 100000\n");
  Write("sys/fs/cgroup/pod/cpu.max", "30000 20000\n");
  Write("sys/fs/cgroup/pod/app/pids.max", "max\n");
  Write("sys/fs/cgroup/pod/pids.max", "8\n");
  Write("sys/fs/cgroup/pod/pids.current", "9\n");
  const Limits limits = Read();
  EXPECT_EQ(limits.memory.bytes, 10000);
  EXPECT_LE(limits.cpus, 1.5);
  EXPECT_EQ(limits.threads, 0);
}

// In a container the mount shows the group as its root, with a namespace of
// its own or not, and nothing above it.
TEST_F(LimitsTest, Version2InContainers) {
  for (const auto& [shown, group] :
       std::map<std::string, std::string>{{"/", "/"},
                                          {"/docker/8a1", "/docker/8a1"},
                                          {"/elsewhere", "/docker/8a1"},
                                          {"/..", "/../../other"}}) {
    Version2(shown, group);
    Memory2("", "5000", 2300);
    EXPECT_EQ(Read().memory.bytes, 3000) << shown << " " << group;
  }
  Memory2("/inner", "4000", 2300);
  Version2("/docker/8a1", "/docker/8a1/inner");
  EXPECT_EQ(Read().memory.bytes, 2000);
}

TEST_F(LimitsTest, OddFilesAreNoLimits) {
  Version2("/", "/a");
  for (const char* odd :
       {"", "\n", "maximum", "-", "12x", "99999999999999999999"}) {
    Write("sys/fs/cgroup/a/memory.max", odd);
    Write("sys/fs/cgroup/a/cpu.max", odd);
    Write("sys/fs/cgroup/a/pids.max", odd);
    const Limits limits = Read();
    EXPECT_EQ(limits.memory.whose, "the machine's memory") << odd;
    EXPECT_GE(limits.cpus, 1) << odd;
  }
  Write("proc/self/mountinfo", " - cgroup2\n\n36\n");
  Write("proc/self/cgroup", "0:\n:\n\n::::\n");
  EXPECT_EQ(Read().memory.whose, "the machine's memory");
}

TEST(DefaultThreadsTest, ObeysEveryLimit) {
  Limits limits;
  limits.cpus = 8;
  EXPECT_EQ(DefaultThreads(limits), 8);
  limits.cpus = 2.9;
  EXPECT_EQ(DefaultThreads(limits), 2);
  limits.threads = 0;
  EXPECT_EQ(DefaultThreads(limits), 1);
  limits.threads = INT64_MAX;
  limits.cpus = 0.2;
  EXPECT_EQ(DefaultThreads(limits), 1);
  limits.cpus = 100;
  limits.address_space.bytes = int64_t{1} << 30;
  EXPECT_EQ(DefaultThreads(limits), 4);
  limits.address_space.bytes = 0;
  EXPECT_EQ(DefaultThreads(limits), 1);
}

TEST(CheckMemoryTest, SaysHowMuchIsThereAndWhoseLimitItIs) {
  CheckMemory(1000, "a thing");
  ExpectError(ErrorKind::kOutOfMemory, "a thing needs about 1000.00 PB", [] {
    CheckMemory(int64_t{1000} * 1000'000'000'000'000, "a thing");
  });
}

}  // namespace
}  // namespace mobe
