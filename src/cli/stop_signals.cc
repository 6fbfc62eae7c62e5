#include "cli/stop_signals.h"

#include <atomic>
#include <csignal>

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

}  // namespace

StopFn StopOnSignals() {
  struct sigaction action {};
  action.sa_handler = Request;
  action.sa_flags = SA_RESTART;
  for (const int signal : kSignals) {
    struct sigaction before {};
    ::sigaction(signal, nullptr, &before);
    // nohup and shells ignore SIGINT for what runs in the background.
    if (before.sa_handler != SIG_IGN) ::sigaction(signal, &action, nullptr);
  }
  return [] { return StopSignal() != 0; };
}

int StopSignal() { return g_signal.load(); }

}  // namespace mobe
