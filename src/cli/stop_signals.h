// Ctrl-C and kill (SIGINT, SIGTERM) as a request that the library is asked to
// look for, see base/stop.h. A second one ends the process at once.
#pragma once

#include "base/stop.h"

namespace mobe {

// From now on for the whole process. For commands whose work can be continued.
StopFn StopOnSignals();

// The signal that came, or 0.
int StopSignal();

}  // namespace mobe
