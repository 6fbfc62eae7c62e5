#include "base/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#if defined(__SANITIZE_THREAD__)
#include <thread>
#include <vector>
#endif

namespace mobe {
namespace {

int g_threads = 0;
thread_local int t_index = 0;
thread_local bool t_inside = false;

// Takes indices until there are none left or somebody failed.
class Work {
 public:
  Work(int64_t count, const std::function<void(int64_t)>& body)
      : count_(count), body_(body) {}

  void Run(int thread) {
    t_index = thread;
    t_inside = true;
    for (;;) {
      const int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= count_ || failed_.load(std::memory_order_relaxed)) break;
      try {
        body_(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!error_) error_ = std::current_exception();
        failed_.store(true, std::memory_order_relaxed);
      }
    }
    t_inside = false;
    t_index = 0;
  }

  void Rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const int64_t count_;
  const std::function<void(int64_t)>& body_;
  std::atomic<int64_t> next_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

void SetThreads(int threads) {
  g_threads = threads > 0 ? threads : omp_get_num_procs();
  // ParallelFor asks for its own team. Everything else that uses OpenMP
  // (oneDNN) stays serial, so that the order of its sums never depends on the
  // machine.
  omp_set_num_threads(1);
}

int Threads() {
  if (g_threads == 0) SetThreads(0);
  return g_threads;
}

void ParallelFor(int64_t count, const std::function<void(int64_t)>& body) {
  const int threads = static_cast<int>(
      std::min<int64_t>(Threads(), std::max<int64_t>(count, 1)));
  if (threads == 1 || t_inside) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  Work work(count, body);
#if defined(__SANITIZE_THREAD__)
  // libgomp is not instrumented and drowns the sanitizer in false reports.
  std::vector<std::jthread> team;
  for (int t = 1; t < threads; ++t)
    team.emplace_back([&work, t] { work.Run(t); });
  work.Run(0);
  team.clear();
#else
#pragma omp parallel num_threads(threads)
  work.Run(omp_get_thread_num());
#endif
  work.Rethrow();
}

void ParallelRanges(int64_t count, int64_t grain,
                    const std::function<void(int64_t, int64_t)>& body) {
  ParallelFor((count + grain - 1) / grain, [&](int64_t i) {
    body(i * grain, std::min(count, (i + 1) * grain));
  });
}

int ThreadIndex() { return t_index; }

}  // namespace mobe
