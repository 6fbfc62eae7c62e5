// Which job is next: the order of jobs, and their division among processes, as
// a value that knows nothing of matrices, files or messages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace mobe {

// Largest first (Graham 1969, "Bounds on multiprocessing timing anomalies":
// with it the last worker ends at most a third later than in the best order).
// Ties go by index.
class JobQueue {
 public:
  // A queue of costs.size() jobs, named by their index; costs in any unit.
  explicit JobQueue(const std::vector<double>& costs);

  // The next job for a worker (any number but -1 and -2), or none when all are
  // begun. A worker has at most one job: asking again gives back the old one.
  std::optional<size_t> Next(int64_t worker);
  // The job is done, by whomever. False when it was done before.
  bool Finish(size_t job);
  // The worker is gone: its job may be begun again.
  void Lose(int64_t worker);

  size_t size() const { return states_.size(); }
  size_t finished() const { return finished_; }
  bool IsFinished(size_t job) const { return states_[job] == kFinished; }
  bool AllFinished() const { return finished_ == states_.size(); }

 private:
  static constexpr int64_t kWaiting = -1;
  static constexpr int64_t kFinished = -2;

  std::vector<size_t> order_;    // largest first
  std::vector<int64_t> states_;  // of each job: one of these or its worker
  size_t finished_ = 0;
};

// One of several shares of the jobs, to be worked on apart from the others.
struct Share {
  int64_t index = 0;  // in [0, count)
  int64_t count = 1;
};

// The jobs of a share, ascending: each job, largest first, goes to the share
// that has least. Shares are disjoint and make up the whole.
std::vector<size_t> JobsOfShare(const std::vector<double>& costs,
                                const Share& share);

// When the last of so many workers, equally fast, has emptied a queue of these
// costs; in their unit.
double Makespan(const std::vector<double>& costs, int64_t workers);

}  // namespace mobe
