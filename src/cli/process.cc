#include "cli/process.h"

#include <execinfo.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <exception>
#include <new>

#include "base/file.h"
#include "kernels/gemm.h"

namespace mobe {
namespace {

// Several threads may meet a fault at once: the first tells it and ends the
// process, the others wait for that.
void WaitUnlessFirst() {
  static std::atomic_flag told = ATOMIC_FLAG_INIT;
  while (told.test_and_set()) ::pause();
}

void OnNullPointer(int signal, siginfo_t* info, void* /*context*/) {
  constexpr uintptr_t kPage = 4096;
  if (reinterpret_cast<uintptr_t>(info->si_addr) >= kPage ||
      !IsInsideProduct()) {
    ::signal(signal, SIG_DFL);
    return;
  }
  WaitUnlessFirst();
  PrintError({"out of memory: no room for the code of a matrix product"});
  ::_exit(1);
}

// On the stack of the thread that met the fault, which ends here.
void OnBusError(int signal, siginfo_t* info, void* /*context*/) {
  const char* file = MappedFileAt(info->si_addr);
  if (file == nullptr) {
    ::signal(signal, SIG_DFL);  // and the same access again
    return;
  }
  WaitUnlessFirst();
  PrintError({"missing: ", file,
              ": was cut short, or can't be read from its disk, while it was "
              "used; get it again and run the same command"});
  ::_exit(1);
}

std::terminate_handler g_terminate;

void OnTerminate() {
  try {
    const std::exception_ptr thrown = std::current_exception();
    if (thrown) std::rethrow_exception(thrown);
  } catch (const std::bad_alloc&) {
    WaitUnlessFirst();
    PrintError({"out of memory"});
    ::_exit(1);
  } catch (...) {
  }
  g_terminate();
}

}  // namespace

void OpenStandardDescriptors() {
  // stdout can only be read: then writing fails.
  constexpr std::array<int, 3> kModes = {O_RDONLY, O_RDONLY, O_WRONLY};
  for (int fd = 0; fd < static_cast<int>(kModes.size()); ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest that is free, which is this one.
    (void)::open("/dev/null", kModes[static_cast<size_t>(fd)]);
  }
}

void NameFaults() {
  struct sigaction action {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = OnBusError;
  ::sigaction(SIGBUS, &action, nullptr);
  action.sa_sigaction = OnNullPointer;
  ::sigaction(SIGSEGV, &action, nullptr);
  g_terminate = std::set_terminate(OnTerminate);
}

void LoadUnwinder() {
  void* frame = nullptr;
  ::backtrace(&frame, 1);
}

void PrintError(std::initializer_list<std::string_view> parts) {
  std::array<char, 4096> line;
  size_t size = 0;
  const auto add = [&](std::string_view text) {
    for (const char c : text) {
      if (size == line.size() - 1) return;
      const auto byte = static_cast<unsigned char>(c);
      line[size++] = byte < 0x20 || byte == 0x7f ? ' ' : c;
    }
  };
  add("mobe: ");
  for (const std::string_view part : parts) add(part);
  line[size++] = '\n';
  std::string_view rest(line.data(), size);
  while (!rest.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // nobody listens
    rest.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace mobe
