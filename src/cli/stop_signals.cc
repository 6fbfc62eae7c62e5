#include "cli/stop_signals.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "base/thread.h"

namespace mobe {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM};

std::atomic<int> g_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);  // or no handler may

void Request(int signal) {
  int none = 0;
  if (g_signal.compare_exchange_strong(none, signal)) return;
  ::signal(signal, SIG_DFL);  // the second
  ::raise(signal);
}

// Counts what Interrupts has not taken.
int g_interrupts = -1;

void CountInterrupt(int) {
  const int saved = errno;
  const uint64_t one = 1;
  // It can't fail before 2^64 of them.
  [[maybe_unused]] const ssize_t written =
      ::write(g_interrupts, &one, sizeof one);
  errno = saved;
}

void Handle(int signal, void (*handler)(int)) {
  struct sigaction before {};
  ::sigaction(signal, nullptr, &before);
  // nohup and shells ignore SIGINT for what runs in the background.
  if (before.sa_handler == SIG_IGN) return;
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  ::sigaction(signal, &action, nullptr);
}

}  // namespace

// Not sigwait in that thread: a library may have started threads before main,
// which block nothing, so signals may go to them.
void TakeSignalsAside() {
  static sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : kSignals) ::sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // threads inherit it
  StartThread([] {
    ::pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    for (;;) ::pause();
  }).detach();
}

StopFn StopOnSignals() {
  for (const int signal : kSignals) Handle(signal, Request);
  return [] { return StopSignal() != 0; };
}

int StopSignal() { return g_signal.load(); }

Interrupts::Interrupts() {
  g_interrupts = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (g_interrupts < 0) {
    Fail(ErrorKind::kInternal, "eventfd: {}", std::strerror(errno));
  }
  Handle(SIGINT, CountInterrupt);
}

Interrupts::~Interrupts() {
  Handle(SIGINT, SIG_DFL);
  ::close(g_interrupts);
}

bool Interrupts::Take() {
  uint64_t count = 0;
  return ::read(g_interrupts, &count, sizeof count) == sizeof count;
}

int Interrupts::fd() const { return g_interrupts; }

}  // namespace mobe
