// The thread that owns the engine, and the queue through which others reach it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "model/engine.h"

namespace mobe {

struct EngineQueueOptions {
  EngineOptions engine;
  // Tickets that may wait until the first of their texts runs.
  int64_t waiting = 64;
};

// What the engine has done and does, for /metrics.
struct EngineStatistics {
  int64_t prompt_tokens = 0;  // of texts that began
  int64_t cached_tokens = 0;  // of these, that were not computed again
  int64_t tokens = 0;         // sampled
  int64_t steps = 0;
  double step_seconds = 0;
  int64_t running = 0;  // texts in the engine
  int64_t waiting = 0;  // tickets of which no text has begun to run
  int64_t pages = 0;    // of the cache, in use
  RunStatistics run;    // of the model
};

// The queue has no room, or takes nothing any more.
class QueueIsFull : public Error {
 public:
  using Error::Error;
};
class QueueIsClosed : public Error {
 public:
  using Error::Error;
};

struct TicketEvent {
  size_t text = 0;  // its place in the ticket
  EngineEvent event;
};

class EngineThread {
 private:
  struct Job;

 public:
  // Texts that a client has asked for together. What of them has not ended when
  // the ticket is given up does not go on: it leaves the engine within a step.
  class Ticket {
   public:
    Ticket(Ticket&&) noexcept = default;
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket();

    // The next event of any of the texts; nothing if none comes for so long.
    // Not to be called when all have ended.
    std::optional<TicketEvent> Next(std::chrono::milliseconds patience);
    // Ends one of the texts; no event of it comes any more.
    void Cancel(size_t text);

   private:
    friend class EngineThread;
    Ticket(EngineThread* thread, std::shared_ptr<Job> job)
        : thread_(thread), job_(std::move(job)) {}

    EngineThread* thread_;
    std::shared_ptr<Job> job_;
  };

  // Starts the thread. The model must outlive it, and be run by nobody else.
  // Fails as Engine and StartThread do.
  EngineThread(const Model& model, const EngineQueueOptions& options);
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;
  // Ends all texts. No ticket may be left.
  ~EngineThread();

  // Takes texts in; their events have the order of a text's own, not among
  // texts. Room in the engine goes to the client with the fewest texts in it,
  // and among those to who came first. Texts of the same prompt next to each
  // other begin when the first has computed it. Fails with kUserInput as
  // Engine::Add does, with QueueIsFull, and with QueueIsClosed after Close.
  Ticket Submit(const std::string& client, std::vector<EngineRequest> texts);

  // From now on no text is taken; those that were go on.
  void Close();
  // Whether nothing runs or waits.
  bool idle() const;

  EngineStatistics statistics() const;

 private:
  using Jobs = std::list<std::shared_ptr<Job>>;

  int64_t Waiting() const;  // jobs of which no text has begun to run
  void Loop();
  void DropCancelled();
  void Feed();
  void Deliver(std::vector<EngineEvent> events);
  void FailAll(const Error& error);
  void EndText(Job* job, size_t text);

  const Model& model_;
  const EngineQueueOptions options_;
  Engine engine_;  // the thread's alone, but for Check

  mutable std::mutex mutex_;  // of all below, and of what is in jobs
  std::condition_variable wake_;
  bool closed_ = false;
  bool stop_ = false;
  Jobs jobs_;                               // with texts that have not ended
  std::map<std::string, int64_t> running_;  // texts in the engine, by client
  struct Place {
    std::shared_ptr<Job> job;
    size_t text;
  };
  std::map<int64_t, Place> places_;  // by the engine's ids
  EngineStatistics statistics_;

  std::thread thread_;  // the last: it uses the others
};

}  // namespace mobe
