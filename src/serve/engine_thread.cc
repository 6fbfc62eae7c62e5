#include "serve/engine_thread.h"

#include <algorithm>
#include <utility>

#include "base/progress.h"
#include "base/thread.h"

namespace mobe {

struct EngineThread::Job {
  enum class State { kWaits, kRuns, kEnded };
  struct Text {
    EngineRequest request;
    size_t alike;  // the first of the neighbours with the same prompt
    State state = State::kWaits;
    int64_t id = -1;     // the engine's, while it runs
    bool begun = false;  // has had an event
    bool cancelled = false;
  };

  std::string client;
  std::vector<Text> texts;
  size_t next = 0;  // the first that has not been in the engine
  size_t left = 0;  // that have not ended
  std::deque<TicketEvent> events;
  std::condition_variable has_events;

  void Add(EngineRequest request) {
    const bool again =
        !texts.empty() && texts.back().request.prompt == request.prompt;
    const size_t alike = again ? texts.back().alike : texts.size();
    texts.push_back({std::move(request), alike});
    ++left;
  }
  void Send(size_t text, EngineEvent event) {
    events.push_back({text, std::move(event)});
    has_events.notify_one();
  }
  bool CanFeed() const {
    if (next == texts.size()) return false;
    const Text& first = texts[texts[next].alike];
    return &first == &texts[next] || first.begun ||
           first.state == State::kEnded;
  }
};

EngineThread::Ticket::~Ticket() {
  if (job_ == nullptr) return;
  for (size_t i = 0; i < job_->texts.size(); ++i) Cancel(i);
}

std::optional<TicketEvent> EngineThread::Ticket::Next(
    std::chrono::milliseconds patience) {
  std::unique_lock lock(thread_->mutex_);
  if (!job_->has_events.wait_for(lock, patience,
                                 [&] { return !job_->events.empty(); })) {
    return std::nullopt;
  }
  TicketEvent event = std::move(job_->events.front());
  job_->events.pop_front();
  return event;
}

void EngineThread::Ticket::Cancel(size_t text) {
  const std::lock_guard lock(thread_->mutex_);
  Job::Text& cancelled = job_->texts[text];
  cancelled.cancelled = true;
  std::erase_if(job_->events,
                [=](const TicketEvent& e) { return e.text == text; });
  if (cancelled.state != Job::State::kEnded) thread_->wake_.notify_one();
}

EngineThread::EngineThread(const Model& model,
                           const EngineQueueOptions& options)
    : model_(model),
      options_(options),
      engine_(model, options.engine),
      thread_(StartThread([this] { Loop(); })) {}

EngineThread::~EngineThread() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

EngineThread::Ticket EngineThread::Submit(const std::string& client,
                                          std::vector<EngineRequest> texts) {
  for (const EngineRequest& text : texts) engine_.Check(text);
  auto job = std::make_shared<Job>();
  job->client = client;
  for (EngineRequest& text : texts) job->Add(std::move(text));
  const std::lock_guard lock(mutex_);
  if (closed_) {
    throw QueueIsClosed(ErrorKind::kUserInput, "the server is shutting down");
  }
  const int64_t waiting = Waiting();
  // Who would run at once need not wait.
  if (waiting >= options_.waiting &&
      std::ssize(places_) >= options_.engine.sequences) {
    throw QueueIsFull(ErrorKind::kUserInput,
                      fmt::format("{} requests are waiting already; try again "
                                  "later",
                                  waiting));
  }
  jobs_.push_back(job);
  wake_.notify_one();
  return {this, std::move(job)};
}

int64_t EngineThread::Waiting() const {
  return std::ranges::count_if(jobs_,
                               [](const auto& job) { return job->next == 0; });
}

void EngineThread::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

bool EngineThread::idle() const {
  const std::lock_guard lock(mutex_);
  return jobs_.empty();
}

EngineStatistics EngineThread::statistics() const {
  const std::lock_guard lock(mutex_);
  EngineStatistics statistics = statistics_;
  statistics.running = std::ssize(places_);
  statistics.waiting = Waiting();
  return statistics;
}

void EngineThread::Loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
    if (stop_) return;
    DropCancelled();
    Feed();
    if (places_.empty()) continue;
    lock.unlock();
    std::vector<EngineEvent> events;
    std::optional<Error> error;
    const double start = MonotonicSeconds();
    try {
      events = engine_.Step();
    } catch (const Error& e) {
      error = e;
    } catch (const std::bad_alloc&) {
      error = Error(ErrorKind::kOutOfMemory, "no memory for the next token");
    }
    lock.lock();
    ++statistics_.steps;
    statistics_.step_seconds += MonotonicSeconds() - start;
    if (error) {
      FailAll(*error);
    } else {
      Deliver(std::move(events));
    }
    std::erase_if(jobs_, [](const auto& job) { return job->left == 0; });
    statistics_.pages = engine_.pages();
    statistics_.run = model_.statistics();
  }
}

void EngineThread::EndText(Job* job, size_t text) {
  Job::Text& ended = job->texts[text];
  if (ended.state == Job::State::kEnded) return;
  if (ended.state == Job::State::kRuns) {
    places_.erase(ended.id);
    const auto running = running_.find(job->client);
    if (--running->second == 0) running_.erase(running);
  }
  ended.state = Job::State::kEnded;
  ended.request = {};  // its memory
  --job->left;
}

void EngineThread::DropCancelled() {
  for (auto it = jobs_.begin(); it != jobs_.end();) {
    Job& job = **it;
    for (size_t i = 0; i < job.texts.size(); ++i) {
      const Job::Text& text = job.texts[i];
      if (!text.cancelled) continue;
      if (text.state == Job::State::kRuns) engine_.Cancel(text.id);
      EndText(&job, i);
    }
    while (job.next < job.texts.size() &&
           job.texts[job.next].state == Job::State::kEnded) {
      ++job.next;
    }
    it = job.left == 0 ? jobs_.erase(it) : std::next(it);
  }
}

void EngineThread::Feed() {
  const auto texts_of = [this](const std::string& client) {
    const auto found = running_.find(client);
    return found == running_.end() ? 0 : found->second;
  };
  while (std::ssize(places_) < options_.engine.sequences) {
    std::shared_ptr<Job> best;
    for (const auto& job : jobs_) {
      if (!job->CanFeed()) continue;
      if (!best || texts_of(job->client) < texts_of(best->client)) best = job;
    }
    if (!best) return;
    const size_t index = best->next++;
    Job::Text& text = best->texts[index];
    const auto fail = [&](const Error& error) {
      best->Send(index, {.error = error});
      EndText(best.get(), index);
      std::erase_if(running_, [](const auto& of) { return of.second == 0; });
    };
    try {
      const int64_t prompt = std::ssize(text.request.prompt);
      const auto running = running_.try_emplace(best->client, 0).first;
      text.id = engine_.Add(std::move(text.request));
      places_[text.id] = {best, index};
      ++running->second;
      text.state = Job::State::kRuns;
      statistics_.prompt_tokens += prompt;
    } catch (const Error& e) {
      fail(e);
    } catch (const std::bad_alloc&) {
      fail(Error(ErrorKind::kOutOfMemory, "no memory for the text"));
    }
  }
}

void EngineThread::Deliver(std::vector<EngineEvent> events) {
  for (EngineEvent& event : events) {
    const auto place = places_.find(event.id);
    if (place == places_.end()) continue;
    const auto [job, index] = place->second;
    Job::Text& text = job->texts[index];
    if (!text.begun) statistics_.cached_tokens += event.cached_tokens;
    if (event.token >= 0) ++statistics_.tokens;
    text.begun = true;
    if (event.finish || event.error) EndText(job.get(), index);
    if (text.cancelled) continue;
    job->Send(index, std::move(event));
  }
}

// The engine is in a state to go on: what was begun is taken out of it.
void EngineThread::FailAll(const Error& error) {
  while (!places_.empty()) {
    const auto [id, place] = *places_.begin();
    engine_.Cancel(id);
    EndText(place.job.get(), place.text);
    place.job->Send(place.text, {.error = error});
  }
}

}  // namespace mobe
