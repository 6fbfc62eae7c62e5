// ranks.h with MPI. Point to point only: no collective call after the start, so
// that the others go on without a rank that died (mpirun --enable-recovery).
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/limits.h"
#include "base/progress.h"
#include "base/thread.h"
#include "compress/ranks.h"

namespace mobe {
namespace {

constexpr double kBeatSeconds = 1;
// A blocking call of MPI spins on a core, which the fit has better use for.
constexpr auto kPollInterval = std::chrono::milliseconds(5);

double SilenceLimit() {
  const char* text = std::getenv("MOBE_RANK_TIMEOUT");
  const double seconds = text == nullptr ? 0 : std::atof(text);
  return seconds > 0 ? seconds : 60;
}

bool StartedByLauncher() {
  // Open MPI; MPICH and Slurm's PMI; Slurm's PMIx.
  constexpr const char* kNames[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE",
                                    "PMIX_RANK"};
  return std::ranges::any_of(
      kNames, [](const char* name) { return std::getenv(name) != nullptr; });
}

// This process on its machine.
struct Place {
  int number = 0;
  // Cores that it may use, over the processes that may do so, too.
  int cores = 1;
};
Place FindPlace() {
  MPI_Comm machine = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL,
                      &machine);
  int size = 1;
  MPI_Comm_size(machine, &size);
  Place place;
  MPI_Comm_rank(machine, &place.number);
  cpu_set_t mine;
  CPU_ZERO(&mine);
  ::sched_getaffinity(0, sizeof mine, &mine);
  std::vector<cpu_set_t> masks(static_cast<size_t>(size));
  MPI_Allgather(&mine, sizeof mine, MPI_BYTE, masks.data(), sizeof mine,
                MPI_BYTE, machine);
  MPI_Comm_free(&machine);
  const auto sharing = std::ranges::count_if(masks, [&](const cpu_set_t& mask) {
    cpu_set_t both;
    CPU_AND(&both, &mask, &mine);
    return CPU_COUNT(&both) > 0;
  });
  place.cores = std::max(
      1, DefaultThreads(ReadLimits()) / std::max(1, static_cast<int>(sharing)));
  return place;
}

struct Outgoing {
  int to = 0;
  std::string text;
  MPI_Request request = MPI_REQUEST_NULL;
};

}  // namespace

struct Ranks::State {
  int rank = 0;
  int size = 1;
  Place place;
  std::string machine;

  std::mutex mutex;  // of the next four
  std::condition_variable arrived;
  std::deque<Message> inbox;
  std::deque<Outgoing> outbox;
  std::vector<bool> lost;  // by rank; written by the thread alone

  std::atomic<bool> ended{false};
  std::atomic<bool> abandoned{false};
  std::atomic<bool> stop{false};
  std::atomic<bool> any_lost{false};
  bool closed = false;
  std::thread thread;

  // The rest is the thread's.
  std::list<Outgoing> sending;
  std::vector<double> heard;  // when, by rank

  bool Talks(int other) const {
    return other != rank && (rank == 0 || other == 0);
  }

  void Run() {
    const double limit = SilenceLimit();
    heard.assign(static_cast<size_t>(size), MonotonicSeconds());
    double next_beat = 0;
    double stop_at = 0;
    for (;;) {
      const double now = MonotonicSeconds();
      if (now >= next_beat) {
        next_beat = now + kBeatSeconds;
        for (int other = 0; other < size; ++other) {
          if (Talks(other)) Post({other, ""});
        }
      }
      while (ReceiveOne()) {
      }
      for (int other = 0; other < size; ++other) {
        const auto i = static_cast<size_t>(other);
        if (Talks(other) && !lost[i] && now - heard[i] > limit) Lose(other);
      }
      // Read before the outbox: what was sent before the stop goes out.
      const bool stopping = stop.load();
      PostOutbox();
      std::erase_if(sending, [](Outgoing& message) {
        int done = 0;
        MPI_Test(&message.request, &done, MPI_STATUS_IGNORE);
        return done != 0;
      });
      if (stopping) {
        if (stop_at == 0) stop_at = now;
        if (sending.empty() || any_lost || now - stop_at > limit) return;
      }
      std::this_thread::sleep_for(kPollInterval);
    }
  }

  // The requests are waited for in Run, with MPI_Test: a dead rank's would
  // never end. NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker)
  void Post(Outgoing message) {
    if (lost[static_cast<size_t>(message.to)]) return;
    Outgoing& kept = sending.emplace_back(std::move(message));
    MPI_Isend(kept.text.data(), static_cast<int>(kept.text.size()), MPI_BYTE,
              kept.to, 0, MPI_COMM_WORLD, &kept.request);
  }
  // NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker)

  void PostOutbox() {
    std::deque<Outgoing> messages;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      messages.swap(outbox);
    }
    for (Outgoing& message : messages) Post(std::move(message));
  }

  bool ReceiveOne() {
    int ready = 0;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, 0, MPI_COMM_WORLD, &ready, &status);
    if (ready == 0) return false;
    int bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    std::string text(static_cast<size_t>(bytes), '\0');
    MPI_Recv(text.data(), bytes, MPI_BYTE, status.MPI_SOURCE, 0, MPI_COMM_WORLD,
             MPI_STATUS_IGNORE);
    const auto from = static_cast<size_t>(status.MPI_SOURCE);
    heard[from] = MonotonicSeconds();
    SetLost(from, false);
    if (!text.empty()) {  // more than a beat
      Message message{status.MPI_SOURCE, Json::parse(text), false};
      if (message.body.contains("end")) {
        if (message.body["end"] == "lost") any_lost = true;
        ended = true;
      }
      Deliver(std::move(message));
    }
    return true;
  }

  void Lose(int other) {
    SetLost(static_cast<size_t>(other), true);
    any_lost = true;
    if (rank != 0 && !ended) {
      abandoned = true;
      ended = true;
    }
    Deliver({other, Json(), true});
  }

  void SetLost(size_t other, bool value) {
    const std::lock_guard<std::mutex> lock(mutex);
    lost[other] = value;
  }

  int CountLost() {
    const std::lock_guard<std::mutex> lock(mutex);
    return static_cast<int>(std::ranges::count(lost, true));
  }

  void Deliver(Message message) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      inbox.push_back(std::move(message));
    }
    arrived.notify_one();
  }
};

std::unique_ptr<Ranks> Ranks::Join() {
  if (!StartedByLauncher()) return nullptr;
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
  auto state = std::make_unique<State>();
  MPI_Comm_rank(MPI_COMM_WORLD, &state->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &state->size);
  if (state->size == 1 || provided < MPI_THREAD_SERIALIZED) {
    MPI_Finalize();
    if (state->size == 1) return nullptr;
    Fail(ErrorKind::kUnsupported,
         "this MPI can't be called from several threads (MPI_THREAD_SERIALIZED "
         "is needed); use --shard i/N and mobe merge");
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  state->lost.assign(static_cast<size_t>(state->size), false);
  state->place = FindPlace();
  char name[MPI_MAX_PROCESSOR_NAME];
  int length = 0;
  MPI_Get_processor_name(name, &length);
  state->machine.assign(name, static_cast<size_t>(length));
  return std::unique_ptr<Ranks>(new Ranks(std::move(state)));
}

Ranks::Ranks(std::unique_ptr<State> state) : state_(std::move(state)) {
  state_->thread = StartThread([s = state_.get()] { s->Run(); });
}

Ranks::~Ranks() {
  if (rank() == 0) {
    Close();
  } else {
    while (!ended()) Receive(1);
    Send(0, {{"bye", true}});
  }
  state_->stop = true;
  state_->thread.join();
  // It waits for all, so that with a dead one it might not return.
  if (!state_->any_lost) MPI_Finalize();
}

int Ranks::rank() const { return state_->rank; }
int Ranks::size() const { return state_->size; }
int Ranks::threads() const { return state_->place.cores; }
int Ranks::place() const { return state_->place.number; }
std::string Ranks::name() const {
  return fmt::format("rank {} on {}", rank(), state_->machine);
}
bool Ranks::ended() const { return state_->ended; }
bool Ranks::abandoned() const { return state_->abandoned; }

void Ranks::Send(int to, const Json& body) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->outbox.push_back(
      {to, body.dump(-1, ' ', false, Json::error_handler_t::replace)});
}

std::optional<Message> Ranks::Receive(double seconds) {
  std::unique_lock<std::mutex> lock(state_->mutex);
  state_->arrived.wait_for(lock, std::chrono::duration<double>(seconds),
                           [this] { return !state_->inbox.empty(); });
  if (state_->inbox.empty()) return std::nullopt;
  Message message = std::move(state_->inbox.front());
  state_->inbox.pop_front();
  return message;
}

std::vector<Message> Ranks::Close() {
  std::vector<Message> rest;
  if (state_->closed) return rest;
  state_->closed = true;
  for (int other = 1; other < size(); ++other) {
    Send(other, {{"end", state_->any_lost ? "lost" : "all"}});
  }
  int byes = 0;
  while (byes + state_->CountLost() < size() - 1) {
    std::optional<Message> message = Receive(0.1);
    if (!message || message->lost) continue;
    if (message->body.contains("bye")) {
      ++byes;
    } else {
      rest.push_back(std::move(*message));
    }
  }
  return rest;
}

}  // namespace mobe
