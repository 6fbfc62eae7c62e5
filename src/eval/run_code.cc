#include "eval/run_code.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "base/progress.h"
#include "base/temporary.h"

namespace mobe {
namespace {

// Of users, network, processes and what they share, and mounts.
constexpr int kNamespaces =
    CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNS;

// In its namespaces: leaves a process the folder alone to write to, and an
// empty /proc.
bool HideTheRest(const char* folder) {
  mount_attr closed{};
  closed.attr_set = MOUNT_ATTR_RDONLY;
  mount_attr open{};
  open.attr_clr = MOUNT_ATTR_RDONLY;
  return ::mount(folder, folder, nullptr, MS_BIND, nullptr) == 0 &&
         ::mount("none", "/proc", "tmpfs", 0, nullptr) == 0 &&
         ::mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &closed,
                         sizeof(closed)) == 0 &&
         ::mount_setattr(AT_FDCWD, folder, 0, &open, sizeof(open)) == 0;
}

// What comes to its end leaves this file.
constexpr const char* kPassedFile = "passed";
// As lm-eval does, with nothing defined, not even as "__main__".
constexpr const char* kRunner =
    "exec(compile(open('program.py').read(), 'program.py', 'exec'), {})\n"
    "__import__('io').open('passed', 'w').close()\n";

// A process, by fork's rules: until exec the child may only call what is safe
// in a handler of signals, since other threads of ours may hold any lock. Not
// fork itself: it knows no namespaces.
pid_t Fork(int flags) {
  return static_cast<pid_t>(::syscall(SYS_clone, flags | SIGCHLD, nullptr,
                                      nullptr, nullptr, nullptr));
}

std::string FindPython() {
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "" : path;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(':'), rest.size());
    const std::string file = std::string(rest.substr(0, end)) + "/python3";
    if (::access(file.c_str(), X_OK) == 0) return file;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  Fail(ErrorKind::kMissing,
       "no python3 on the PATH, which is to run what the model writes");
}

void Limit(__rlimit_resource resource, uint64_t value) {
  const rlimit limit{value, value};
  ::setrlimit(resource, &limit);
}

// What a child needs, made before there is one.
struct Launch {
  std::string python;
  std::string folder;
  std::string path;
  CodeLimits limits;
  bool apart;
};

[[noreturn]] void BecomePython(const Launch& launch, const char* const* argv,
                               const char* const* environment) {
  ::setsid();
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
  ::syscall(SYS_close_range, 3U, ~0U, 0U);
  Limit(RLIMIT_CPU,
        static_cast<uint64_t>(std::ceil(launch.limits.seconds)) + 1);
  Limit(RLIMIT_AS, static_cast<uint64_t>(launch.limits.memory));
  Limit(RLIMIT_FSIZE, 16U << 20);
  Limit(RLIMIT_NOFILE, 64);
  Limit(RLIMIT_CORE, 0);
  if (launch.apart && !HideTheRest(launch.folder.c_str())) ::_exit(127);
  if (::chdir(launch.folder.c_str()) == 0) {
    ::execve(launch.python.c_str(), const_cast<char* const*>(argv),
             const_cast<char* const*>(environment));
  }
  ::_exit(127);
}

// The status of waitpid, or nothing when time is over: then it was killed.
std::optional<int> WaitFor(pid_t child, double seconds) {
  const double end = MonotonicSeconds() + seconds;
  int status = 0;
  for (;;) {
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child || (ended < 0 && errno != EINTR)) break;
    if (MonotonicSeconds() > end) {
      ::kill(-child, SIGKILL);
      ::kill(child, SIGKILL);
      while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
      }
      return std::nullopt;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ::kill(-child, SIGKILL);  // what it left running, in its session
  return status;
}

}  // namespace

bool CodeIsApart() {
  const std::string folder = std::filesystem::temp_directory_path();
  const pid_t child = Fork(kNamespaces);
  if (child == 0) ::_exit(HideTheRest(folder.c_str()) ? 0 : 1);
  if (child < 0) return false;
  int status = 1;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status == 0;
}

CodeResult RunPython(const std::string& program, const CodeLimits& limits) {
  namespace fs = std::filesystem;
  static const bool kApart = CodeIsApart();
  std::string folder = fs::temp_directory_path() / "mobe_code_XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) {
    Fail(ErrorKind::kUserInput, "{}: cannot make a folder to run code in: {}",
         folder, std::strerror(errno));
  }
  const Temporary removed{folder};
  std::ofstream(fs::path(folder) / "program.py", std::ios::binary) << program;

  const Launch launch{FindPython(), folder,
                      std::string("PATH=") + std::getenv("PATH"), limits,
                      kApart};
  // -I: neither the environment nor the user's own modules are read.
  const char* const argv[] = {
      launch.python.c_str(), "-I", "-B", "-c", kRunner, nullptr};
  const char* const environment[] = {launch.path.c_str(), "LANG=C.UTF-8",
                                     nullptr};
  const pid_t child = Fork(kApart ? kNamespaces : 0);
  if (child == 0) BecomePython(launch, argv, environment);
  if (child < 0) {
    Fail(ErrorKind::kOutOfMemory, "cannot start a process to run code in: {}",
         std::strerror(errno));
  }
  // One second more, in which Python starts.
  const std::optional<int> status = WaitFor(child, limits.seconds + 1);
  if (!status) return CodeResult::kTimedOut;
  std::error_code error;
  const bool passed = WIFEXITED(*status) && WEXITSTATUS(*status) == 0 &&
                      fs::exists(fs::path(folder) / kPassedFile, error);
  return passed ? CodeResult::kPassed : CodeResult::kFailed;
}

}  // namespace mobe
