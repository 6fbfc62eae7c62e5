#include "compress/crew.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <utility>

#include "base/error.h"
#include "base/stop.h"
#include "base/thread.h"

namespace mobe {

Crew::Crew(JobQueue queue, int64_t passes, Ranks* ranks, Json terms,
           DoneFn done)
    : queue_(std::move(queue)),
      passes_(passes),
      ranks_(ranks),
      terms_(std::move(terms)),
      done_(std::move(done)) {
  if (ranks_ != nullptr) thread_ = StartThread([this] { Serve(); });
}

Crew::~Crew() {
  if (ranks_ == nullptr) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
  }
  thread_.join();
  for (const Message& message : ranks_->Close()) Handle(message);
}

std::optional<size_t> Crew::Next(int64_t thread) {
  // Ranks have the numbers above 0 in the queue.
  constexpr int64_t kBelowStates = -2;
  const std::lock_guard<std::mutex> lock(mutex_);
  return queue_.Next(thread == 0 ? 0 : kBelowStates - thread);
}

void Crew::Finish(size_t job) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (queue_.Finish(job)) news_.push_back(job);
  changed_.notify_all();
}

std::vector<size_t> Crew::News() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(news_, {});
}

void Crew::Wait() {
  // Not for ever: a lost rank's job may be back in the queue.
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, std::chrono::seconds(1),
                    [this] { return failure_ || !news_.empty(); });
}

void Crew::Check() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
}

void Crew::Serve() {
  try {
    for (;;) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (closing_) return;
      }
      const std::optional<Message> message = ranks_->Receive(0.05);
      if (message) Handle(*message);
    }
  } catch (...) {  // no memory for a message
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

void Crew::Handle(const Message& message) {
  try {
    const Json& body = message.body;
    if (message.lost) {
      const std::lock_guard<std::mutex> lock(mutex_);
      queue_.Lose(message.from);
      std::erase(idle_, message.from);
    } else if (body.contains("hello")) {
      CheckTerms(body);
    } else if (body.contains("ask")) {
      const std::lock_guard<std::mutex> lock(mutex_);
      idle_.push_back(message.from);
    } else if (body.contains("done")) {
      const size_t job = body["done"];
      // Twice, when a rank was taken for lost but was not.
      const bool first = !IsFinished(job);
      if (first) done_(message.from, job, body["record"]);
      Finish(job);
    } else if (body.contains("stopped")) {
      throw StopWork();
    } else if (body.contains("failed")) {
      throw Error(body["kind"].get<ErrorKind>(), body["failed"]);
    }
    Assign();
  } catch (...) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
  changed_.notify_all();
}

void Crew::CheckTerms(const Json& hello) const {
  const auto differences = Differences(terms_, hello["hello"]);
  if (differences.empty()) return;
  const JsonDifference& d = differences.front();
  Fail(ErrorKind::kUserInput,
       "{} would not give the bytes that rank 0 does: its {} is {}, here {}; "
       "all ranks need the same",
       hello["name"].get<std::string>(), d.key, d.after.dump(),
       d.before.dump());
}

bool Crew::IsFinished(size_t job) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return queue_.IsFinished(job);
}

void Crew::Assign() {
  const std::lock_guard<std::mutex> lock(mutex_);
  while (!idle_.empty() && !failure_ && !closing_) {
    const std::optional<size_t> job = queue_.Next(idle_.front());
    if (!job) return;
    ranks_->Send(idle_.front(), {{"job", *job}, {"passes", passes_}});
    idle_.erase(idle_.begin());
  }
}

void WorkForRank0(Ranks* ranks, const Json& terms,
                  const std::function<Json(size_t job, int64_t passes)>& run) {
  ranks->Send(0, {{"hello", terms}, {"name", ranks->name()}});
  ranks->Send(0, {{"ask", true}});
  while (!ranks->ended()) {
    const std::optional<Message> message = ranks->Receive(1);
    if (!message || !message->body.contains("job")) continue;
    const size_t job = message->body["job"];
    const Json record = run(job, message->body["passes"]);
    ranks->Send(0, {{"done", job}, {"record", record}});
    ranks->Send(0, {{"ask", true}});
  }
}

void TellRank0(Ranks* ranks, const std::function<void()>& work) {
  const auto tell = [&](ErrorKind kind, const char* what) {
    ranks->Send(0, {{"failed", fmt::format("{}: {}", ranks->name(), what)},
                    {"kind", kind}});
  };
  try {
    work();
  } catch (const StopWork&) {
  } catch (const Stopped&) {
    ranks->Send(0, {{"stopped", true}});
  } catch (const Error& e) {
    tell(e.kind(), e.what());
  } catch (const std::bad_alloc&) {
    tell(ErrorKind::kOutOfMemory, "not enough memory");
  } catch (const std::exception& e) {
    tell(ErrorKind::kInternal, e.what());
  }
  while (!ranks->ended()) ranks->Receive(1);
  if (!ranks->abandoned()) return;
  Fail(ErrorKind::kMissing,
       "{}: nothing is heard of rank 0 any more, and the job is not finished; "
       "run the same command to continue",
       ranks->name());
}

}  // namespace mobe
