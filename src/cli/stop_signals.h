// Ctrl-C and kill (SIGINT, SIGTERM) as a request that the library is asked to
// look for, see base/stop.h. A second one ends the process at once.
#pragma once

#include "base/stop.h"

namespace mobe {

// First thing in main, before there is another thread: SIGINT and SIGTERM are
// handled, or end the process, in a thread that does nothing else. Those that
// compute must not be interrupted: oneDNN's generated float32 products point
// the stack pointer into memory of theirs, and a signal's frame would be
// written over what lies below it.
void TakeSignalsAside();

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
