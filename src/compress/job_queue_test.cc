#include "compress/job_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <queue>
#include <random>

namespace mobe {
namespace {

using ::testing::ElementsAre;

TEST(JobQueueTest, LargestFirstThenByIndex) {
  JobQueue queue({1, 3, 2, 3, 1});
  std::vector<size_t> order;
  for (int64_t worker = 0; worker < 5; ++worker) {
    order.push_back(*queue.Next(worker));
  }
  EXPECT_THAT(order, ElementsAre(1, 3, 2, 0, 4));
  EXPECT_FALSE(queue.Next(5));
  EXPECT_FALSE(queue.AllFinished());
}

TEST(JobQueueTest, FinishesOnce) {
  JobQueue queue({1, 2, 3});
  EXPECT_TRUE(queue.Finish(1));
  EXPECT_FALSE(queue.Finish(1));
  EXPECT_TRUE(queue.IsFinished(1));
  EXPECT_FALSE(queue.IsFinished(0));
  EXPECT_EQ(queue.Next(0), 2u);
  EXPECT_TRUE(queue.Finish(2));
  EXPECT_EQ(queue.Next(0), 0u);
  EXPECT_TRUE(queue.Finish(0));
  EXPECT_TRUE(queue.AllFinished());
  EXPECT_EQ(queue.finished(), 3u);
  EXPECT_FALSE(queue.Next(0));
}

TEST(JobQueueTest, AskingAgainGivesTheSameJob) {
  JobQueue queue({1, 2});
  EXPECT_EQ(queue.Next(7), 1u);
  EXPECT_EQ(queue.Next(7), 1u);
}

TEST(JobQueueTest, ALostWorkersJobIsBegunAgain) {
  JobQueue queue({3, 2, 1});
  EXPECT_EQ(queue.Next(0), 0u);
  EXPECT_EQ(queue.Next(1), 1u);
  queue.Lose(0);
  queue.Lose(5);  // had none
  EXPECT_TRUE(queue.Finish(1));
  EXPECT_EQ(queue.Next(1), 0u);
  // The lost one was alive after all, and first: its result counts, once.
  EXPECT_TRUE(queue.Finish(0));
  EXPECT_FALSE(queue.Finish(0));
  EXPECT_EQ(queue.Next(1), 2u);
}

TEST(ShareTest, SharesAreDisjointWholeAndEven) {
  const std::vector<double> costs = {5, 1, 1, 1, 1, 1, 4, 2};
  for (const int64_t count : {1, 2, 3, 8, 11}) {
    std::vector<size_t> all;
    double most = 0;
    for (int64_t index = 0; index < count; ++index) {
      const auto jobs = JobsOfShare(costs, {index, count});
      EXPECT_TRUE(std::ranges::is_sorted(jobs));
      double load = 0;
      for (const size_t job : jobs) load += costs[job];
      most = std::max(most, load);
      all.insert(all.end(), jobs.begin(), jobs.end());
    }
    std::ranges::sort(all);
    EXPECT_THAT(all, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7)) << count;
    EXPECT_EQ(most, std::max(5.0, 16.0 / static_cast<double>(count) +
                                      (count == 3 ? 2.0 / 3 : 0)))
        << count;
  }
}

// A model's jobs and how long each takes, in units of an average one: the cost
// says what is expected, the time is 10% around it.
struct Workload {
  std::vector<double> costs;
  std::vector<double> times;
};

Workload Jobs(const std::vector<double>& costs, uint64_t seed) {
  std::mt19937_64 random(seed);
  Workload work{costs, {}};
  for (const double cost : costs) {
    const double unit = static_cast<double>(random() >> 11) * 0x1p-53;
    work.times.push_back(cost * (0.9 + 0.2 * unit));
  }
  return work;
}

// Time spent in jobs, over that of all workers until the last has ended.
double Efficiency(const Workload& work, int64_t workers) {
  JobQueue queue(work.costs);
  // When each worker is free; the earliest asks next.
  using Event = std::pair<double, int64_t>;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> free;
  for (int64_t w = 0; w < workers; ++w) free.emplace(0, w);
  std::vector<std::optional<size_t>> running(static_cast<size_t>(workers));
  double busy = 0;
  double end = 0;
  while (!free.empty()) {
    const auto [now, worker] = free.top();
    free.pop();
    auto& job = running[static_cast<size_t>(worker)];
    if (job) queue.Finish(*job);
    job = queue.Next(worker);
    if (!job) continue;
    const double done = now + work.times[*job];
    busy += work.times[*job];
    end = std::max(end, done);
    free.emplace(done, worker);
  }
  EXPECT_TRUE(queue.AllFinished());
  return busy / (end * static_cast<double>(workers));
}

double WorstEfficiency(const std::vector<double>& costs, int64_t workers) {
  double worst = 1;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    worst = std::min(worst, Efficiency(Jobs(costs, seed), workers));
  }
  return worst;
}

std::vector<double> Equal(int64_t layers, int64_t kinds) {
  std::vector<double> costs;
  costs.resize(static_cast<size_t>(layers * kinds), 1.0);
  return costs;
}

// docs/cluster.md has the means of these. Equal jobs: the last round decides,
// so that j jobs on w workers can't do better than j / (w ceil(j / w)) on
// average; the noise of the last round takes some more.
TEST(EfficiencyTest, Qwen3With235B) {                  // 94 layers of experts
  EXPECT_GT(WorstEfficiency(Equal(94, 2), 64), 0.90);  // 188 / 192 = 0.979
  EXPECT_GT(WorstEfficiency(Equal(94, 3), 64), 0.85);  // 282 / 320 = 0.881
  EXPECT_GT(WorstEfficiency(Equal(94, 2), 47), 0.90);  // 4 each
}

// Too few jobs for 64 workers to be 0.9 busy, in whatever order.
TEST(EfficiencyTest, DeepSeekV3) {  // 58 layers of experts
  const double gate_up =
      WorstEfficiency(Equal(58, 2), 64);  // 116 / 128 = 0.906
  EXPECT_GT(gate_up, 0.82);
  EXPECT_LT(gate_up, 0.906);
  const double with_down = WorstEfficiency(Equal(58, 3), 64);  // 174 / 192
  EXPECT_GT(with_down, 0.85);
  EXPECT_LT(with_down, 0.906);
  EXPECT_GT(WorstEfficiency(Equal(58, 2), 58), 0.90);  // 2 each
  EXPECT_GT(WorstEfficiency(Equal(58, 2), 29), 0.92);  // 4 each
}

// Ten jobs a worker, of whatever size.
TEST(EfficiencyTest, EnoughJobs) {
  EXPECT_GT(WorstEfficiency(Equal(320, 2), 64), 0.93);
  std::vector<double> mixed;
  for (int64_t i = 0; i < 640; ++i) {
    mixed.push_back(1 + static_cast<double>(i % 7));
  }
  EXPECT_GT(WorstEfficiency(mixed, 64), 0.95);
}

TEST(EfficiencyTest, LargestFirstPays) {
  std::vector<double> costs = Equal(63, 4);
  costs.push_back(4.0);  // the last by index
  EXPECT_GT(Efficiency({costs, costs}, 64), 0.99);
  const std::vector<double> unsaid(costs.size(), 1.0);
  EXPECT_LT(Efficiency({unsaid, costs}, 64), 0.6);
}

}  // namespace
}  // namespace mobe
