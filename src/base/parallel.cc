// A pool of our own and not OpenMP's: libgomp's threads spin between loops,
// which makes a busy machine tens of times slower, and can be told not to only
// by an environment variable read before main. Here a waiting thread spins for
// some microseconds, the length of the serial parts of a decoding step, then
// sleeps; it sleeps at once when there are more threads than can run, since it
// would spin in the place of the one that it waits for.
#include "base/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "base/limits.h"
#include "base/thread.h"

namespace mobe {
namespace {

thread_local int t_index = 0;
thread_local bool t_inside = false;

// Unsigned: rounds overflow after 2^32 loops.
using Count = uint32_t;

// Waits until `value` is no longer `old`, `spins` times before it sleeps.
void WaitWhile(const std::atomic<Count>& value, Count old, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  value.wait(old, std::memory_order_acquire);
}

// One loop: threads take indices until there are none left or one failed.
class Loop {
 public:
  Loop(int64_t count, const std::function<void(int64_t)>& body)
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

class Pool {
 public:
  // The calling thread of Run is one of the threads. They are fewer when the
  // system starts no more: results are the same.
  Pool(int wanted, const Limits& limits) : wanted_(wanted) {
    const int threads = wanted > 0 ? wanted : DefaultThreads(limits);
    spins_ = threads <= limits.cpus ? 2000 : 0;
    workers_.reserve(static_cast<size_t>(threads - 1));
    try {
      for (int t = 1; t < threads; ++t) {
        workers_.push_back(StartThread([this, t] { Work(t); }));
      }
    } catch (const Error&) {
    } catch (const std::bad_alloc&) {
    }
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    ending_.store(true, std::memory_order_relaxed);
    Start();
    for (std::thread& worker : workers_) worker.join();
  }

  int wanted() const { return wanted_; }
  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Waits for the workers that have come, not for those that sleep yet: where
  // there are more threads than processors, the caller may have done all before
  // the last is woken.
  void Run(Loop* loop) {
    const std::lock_guard<std::mutex> lock(mutex_);
    loop_ = loop;
    gate_.store(0, std::memory_order_release);
    Start();
    loop->Run(0);
    Count inside = gate_.fetch_or(kClosed, std::memory_order_acq_rel) | kClosed;
    for (; inside != kClosed; inside = gate_.load(std::memory_order_acquire)) {
      WaitWhile(gate_, inside, spins_);
    }
  }

 private:
  // Just below the overflow, so that every run goes over it.
  static constexpr Count kFirstRound = UINT32_MAX - 100;
  static constexpr Count kClosed = Count{1} << 31;

  void Start() {
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
  }

  void Work(int thread) {
    omp_set_num_threads(1);  // see MakePool; the setting is the thread's own
    for (Count round = kFirstRound;;) {
      WaitWhile(round_, round, spins_);
      round = round_.load(std::memory_order_acquire);
      if (ending_.load(std::memory_order_relaxed)) return;
      if (!Enter()) continue;
      loop_->Run(thread);
      gate_.fetch_sub(1, std::memory_order_acq_rel);
      gate_.notify_one();
    }
  }

  bool Enter() {
    Count inside = gate_.load(std::memory_order_relaxed);
    while ((inside & kClosed) == 0) {
      if (gate_.compare_exchange_weak(inside, inside + 1,
                                      std::memory_order_acquire,
                                      std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }

  const int wanted_;
  int spins_ = 0;
  std::mutex mutex_;                       // one loop at a time
  Loop* loop_ = nullptr;                   // written before the gate is opened
  std::atomic<Count> round_{kFirstRound};  // loops begun
  std::atomic<Count> gate_{kClosed};  // workers in the loop, or kClosed too
  std::atomic<bool> ending_{false};
  std::vector<std::thread> workers_;
};

// oneDNN has OpenMP threads of its own: it stays serial, so that the order of
// its sums never depends on the machine.
std::unique_ptr<Pool> MakePool(int threads) {
  omp_set_num_threads(1);
  const Limits limits = ReadLimits();
  return std::make_unique<Pool>(threads, limits);
}

std::unique_ptr<Pool>& ThePool(int threads_at_first = 0) {
  static std::unique_ptr<Pool> pool = MakePool(threads_at_first);
  return pool;
}

}  // namespace

void SetThreads(int threads) {
  std::unique_ptr<Pool>& pool = ThePool(threads);
  if (pool->wanted() == threads) return;
  pool.reset();  // first: both together may be more than the system starts
  pool = MakePool(threads);
}

int Threads() { return ThePool()->threads(); }

void ParallelFor(int64_t count, const std::function<void(int64_t)>& body) {
  if (count <= 1 || t_inside || Threads() == 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  Loop loop(count, body);
  ThePool()->Run(&loop);
  loop.Rethrow();
}

void ParallelRanges(int64_t count, int64_t grain,
                    const std::function<void(int64_t, int64_t)>& body) {
  ParallelFor(count / grain + (count % grain != 0 ? 1 : 0), [&](int64_t i) {
    body(i * grain, i * grain + std::min(grain, count - i * grain));
  });
}

int ThreadIndex() { return t_index; }

}  // namespace mobe
