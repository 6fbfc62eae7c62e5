#include "machine/bandwidth.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <numeric>

#include "base/limits.h"
#include "base/matrix.h"
#include "base/parallel.h"
#include "base/progress.h"

namespace mobe {
namespace {

// What a thread reads in one go: long enough for the prefetchers, and so many
// of them that no thread waits for the last.
constexpr int64_t kPieceWords = int64_t{1} << 19;  // 4 MiB

// Four times the last-level cache, as the system tells it, up to 1 GiB (a guest
// is told the cache of the whole host, and each first touch of a page costs),
// and 64 MiB for each thread, since machines with many have several such
// caches; within a quarter of the memory.
int64_t BufferWords() {
  const int64_t cache = std::max<int64_t>(::sysconf(_SC_LEVEL3_CACHE_SIZE), 0);
  const int64_t wanted =
      std::max({int64_t{128} << 20, std::min(4 * cache, int64_t{1} << 30),
                Threads() * (int64_t{64} << 20)});
  const int64_t room = ReadLimits().Memory().bytes / 4;
  return std::max(std::min(wanted, room) / 8 / kPieceWords, int64_t{1}) *
         kPieceWords;
}

uint64_t Sum(const uint64_t* words, int64_t count) {
  uint64_t sums[16] = {};
  for (int64_t i = 0; i < count; i += 16) {
    for (int64_t k = 0; k < 16; ++k) sums[k] += words[i + k];
  }
  return std::accumulate(sums, sums + 16, uint64_t{0});
}

}  // namespace

double MeasureBandwidth(double seconds) {
  Buffer<uint64_t> words(BufferWords());
  ParallelRanges(words.size(), kPieceWords, [&](int64_t begin, int64_t end) {
    std::fill(words.data() + begin, words.data() + end, begin);
  });
  std::atomic<uint64_t> kept{0};  // or the compiler would read nothing
  const double start = MonotonicSeconds();
  double best = 0;
  for (int round = 0; round < 3 || MonotonicSeconds() - start < seconds;
       ++round) {
    const double begin = MonotonicSeconds();
    ParallelRanges(words.size(), kPieceWords, [&](int64_t first, int64_t end) {
      kept.fetch_add(Sum(words.data() + first, end - first),
                     std::memory_order_relaxed);
    });
    best = std::max(best, static_cast<double>(8 * words.size()) /
                              (MonotonicSeconds() - begin));
  }
  return best;
}

}  // namespace mobe
