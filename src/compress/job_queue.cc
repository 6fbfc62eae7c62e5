#include "compress/job_queue.h"

#include <algorithm>
#include <numeric>

namespace mobe {
namespace {

std::vector<size_t> LargestFirst(const std::vector<double>& costs) {
  std::vector<size_t> order(costs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(
      order, [&](size_t a, size_t b) { return costs[a] > costs[b]; });
  return order;
}

}  // namespace

JobQueue::JobQueue(const std::vector<double>& costs)
    : order_(LargestFirst(costs)), states_(costs.size(), kWaiting) {}

// Linear in the number of jobs, a few hundred of which take hours.
std::optional<size_t> JobQueue::Next(int64_t worker) {
  for (const int64_t wanted : {worker, kWaiting}) {
    for (const size_t job : order_) {
      if (states_[job] != wanted) continue;
      states_[job] = worker;
      return job;
    }
  }
  return std::nullopt;
}

bool JobQueue::Finish(size_t job) {
  if (states_[job] == kFinished) return false;
  states_[job] = kFinished;
  ++finished_;
  return true;
}

void JobQueue::Lose(int64_t worker) {
  std::ranges::replace(states_, worker, kWaiting);
}

std::vector<size_t> JobsOfShare(const std::vector<double>& costs,
                                const Share& share) {
  std::vector<double> loads(static_cast<size_t>(share.count), 0);
  std::vector<size_t> jobs;
  for (const size_t job : LargestFirst(costs)) {
    const auto least = std::ranges::min_element(loads);
    *least += costs[job];
    if (least - loads.begin() == share.index) jobs.push_back(job);
  }
  std::ranges::sort(jobs);
  return jobs;
}

double Makespan(const std::vector<double>& costs, int64_t workers) {
  std::vector<double> ends(static_cast<size_t>(workers), 0);
  for (const size_t job : LargestFirst(costs)) {
    *std::ranges::min_element(ends) += costs[job];
  }
  return *std::ranges::max_element(ends);
}

}  // namespace mobe
