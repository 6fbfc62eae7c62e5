// Everyone who works on one compress job: this process and, when mpirun started
// several, those of the other ranks. Rank 0 holds the queue and takes from it
// like the others do.
//
//   rank r -> 0   {"hello": terms}            once, then
//                 {"ask": true}               when it is free
//                 {"done": job, "record": ..} factors are durable
//                 {"failed": line, "kind": k} it stops
//                 {"stopped": true}           it was told to stop, by a signal
//   0 -> rank r   {"job": job, "passes": n}, {"end": ..}
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "compress/job_queue.h"
#include "compress/ranks.h"

namespace mobe {

class Crew {
 public:
  // Called when another rank's job is done, from another thread: stores its
  // record.
  using DoneFn = std::function<void(int rank, size_t job, const Json& record)>;

  // `ranks` is null without others. `terms` is what all must agree in, an
  // object: a rank that says other ones fails the crew.
  Crew(JobQueue queue, int64_t passes, Ranks* ranks, Json terms, DoneFn done);
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;
  // Ends the other ranks, and stores what they had just finished.
  ~Crew();

  // A job for a thread of this process (from 0), which it must Finish before it
  // asks again; none when all are begun.
  std::optional<size_t> Next(int64_t thread = 0);
  void Finish(size_t job);
  // The jobs that were finished since the last call, in that order.
  std::vector<size_t> News();
  // Waits for news or a failure, at most a second.
  void Wait();
  // Rethrows the first failure of another rank: one ends the whole run. Throws
  // StopWork when one was told to stop.
  void Check();

 private:
  void Serve();
  void Handle(const Message& message);
  void CheckTerms(const Json& hello) const;
  bool IsFinished(size_t job);
  // Gives jobs to those who wait for one.
  void Assign();

  std::mutex mutex_;  // of the next six
  std::condition_variable changed_;
  JobQueue queue_;
  std::vector<size_t> news_;
  std::vector<int> idle_;  // ranks that asked and have no job, in that order
  std::exception_ptr failure_;
  bool closing_ = false;

  const int64_t passes_;
  Ranks* const ranks_;
  const Json terms_;
  const DoneFn done_;
  std::thread thread_;
};

// The other side: works until rank 0 says the end. `run` does a job and returns
// its record; it should throw StopWork soon after ranks->ended(), and Stopped
// when it was told to stop. That, and anything else that it throws, is told to
// rank 0, and ends the run there.
struct StopWork {};
void WorkForRank0(Ranks* ranks, const Json& terms,
                  const std::function<Json(size_t job, int64_t passes)>& run);

// Calls work(); what it throws becomes rank 0's failure. For all that another
// rank does, so that there is one message, from one process. When rank 0 is
// lost nobody is left to say so but each other rank: fails with kMissing.
void TellRank0(Ranks* ranks, const std::function<void()>& work);

}  // namespace mobe
