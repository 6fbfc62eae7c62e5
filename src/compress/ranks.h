// The processes that mpirun (or srun) started together, and messages between
// rank 0 and the others. In a build without MPI there is never more than one.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace mobe {

// Messages are JSON objects. One that has the key "end", from rank 0, is the
// last that a rank gets.
struct Message {
  int from = 0;
  Json body;          // null when `lost`
  bool lost = false;  // the rank has been silent for too long: taken for dead
};

// All calls of MPI are made by a thread of its own, which also tells the others
// every second that this rank is alive. MPI itself tells nothing of a dead
// rank, and a message to one may block, so that one who was silent for
// MOBE_RANK_TIMEOUT seconds (60) is sent nothing until it is heard again.
class Ranks {
 public:
  // Null when this process was started alone. Fails with kUserInput when it was
  // not, but the build has no MPI. To be called once, early.
  static std::unique_ptr<Ranks> Join();

  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;
  // Rank 0 ends the others: Close, if that was not called. Another rank waits
  // for that end.
  ~Ranks();

  int rank() const;
  int size() const;
  // Cores of this machine for each of the ranks that may run on them.
  int threads() const;
  // This rank's number among those of its machine, from 0.
  int place() const;
  // "rank 2 on node17", for messages.
  std::string name() const;

  // Returns at once.
  void Send(int to, const Json& body);
  // The next message, or nothing when none came for that long.
  std::optional<Message> Receive(double seconds);
  // Rank 0 has said the end, or is lost.
  bool ended() const;
  // Rank 0 is lost and has not said the end: what it did is not finished.
  bool abandoned() const;
  // At rank 0: tells all others the end and waits until each was there or is
  // lost. Gives what they had still sent, to save it.
  std::vector<Message> Close();

 private:
  struct State;
  explicit Ranks(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace mobe
