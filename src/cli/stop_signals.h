// Ctrl-C and kill (SIGINT, SIGTERM) as a request that the library is asked to
// look for, see base/stop.h. A second one ends the process at once.
#pragma once

#include "base/stop.h"

namespace mobe {

// From now on for the whole process. For commands whose work can be continued.
StopFn StopOnSignals();

// The signal that came, or 0.
int StopSignal();

// Ctrl-C as an event that may come again and again: for a conversation, where
// it stops an answer and not the program. One at a time, not together with
// StopOnSignals.
class Interrupts {
 public:
  Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;
  ~Interrupts();  // Ctrl-C ends the process again

  // Whether there was one since the last call.
  bool Take();
  // For poll(): readable while Take would be true.
  int fd() const;
};

}  // namespace mobe
