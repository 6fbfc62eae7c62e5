#include "base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace mobe {
namespace {

TEST(ParallelTest, EveryIndexOnce) {
  std::vector<std::atomic<int>> seen(1000);
  ParallelFor(1000, [&](int64_t i) { ++seen[i]; });
  for (const auto& count : seen) EXPECT_EQ(count, 1);
}

TEST(ParallelTest, ThreadIndexIsInRange) {
  ParallelFor(100, [&](int64_t) {
    EXPECT_GE(ThreadIndex(), 0);
    EXPECT_LT(ThreadIndex(), Threads());
  });
  EXPECT_EQ(ThreadIndex(), 0);
}

TEST(ParallelTest, NestedLoopsRunOnTheThreadTheyStartOn) {
  ParallelFor(8, [&](int64_t) {
    const int outer = ThreadIndex();
    ParallelFor(8, [&](int64_t) { EXPECT_EQ(ThreadIndex(), outer); });
  });
}

TEST(ParallelTest, ExceptionsReachTheCaller) {
  EXPECT_THROW(ParallelFor(100,
                           [](int64_t i) {
                             if (i == 37) throw std::runtime_error("37");
                           }),
               std::runtime_error);
  ParallelFor(1, [](int64_t) {});  // and the pool still works
}

TEST(ParallelTest, RangesCoverAndDependOnGrainAlone) {
  std::vector<std::atomic<int>> seen(103);
  ParallelRanges(103, 10, [&](int64_t begin, int64_t end) {
    EXPECT_EQ(begin % 10, 0);
    for (int64_t i = begin; i < end; ++i) ++seen[i];
  });
  for (const auto& count : seen) EXPECT_EQ(count, 1);
  ParallelRanges(0, 10, [&](int64_t, int64_t) { FAIL(); });
}

// The pool's count of loops overflows on the way.
TEST(ParallelTest, ManyLoopsOnMoreThreadsThanCanRun) {
  const int before = Threads();
  SetThreads(7);
  std::atomic<int64_t> sum = 0;
  for (int loop = 0; loop < 300; ++loop) {
    ParallelFor(5, [&](int64_t i) { sum += i; });
  }
  EXPECT_EQ(sum, 300 * 10);
  SetThreads(before);
}

TEST(ParallelTest, CountsBeyond32Bits) {
  constexpr int64_t kCount = (int64_t{1} << 40) + 1;
  std::atomic<int64_t> covered = 0;
  ParallelRanges(kCount, int64_t{1} << 39,
                 [&](int64_t begin, int64_t end) { covered += end - begin; });
  EXPECT_EQ(covered, kCount);
  ParallelRanges(INT64_MAX, INT64_MAX - 1,
                 [&](int64_t begin, int64_t end) { EXPECT_LT(begin, end); });
}

}  // namespace
}  // namespace mobe
