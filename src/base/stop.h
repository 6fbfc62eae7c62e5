// How long work is stopped from outside, say by Ctrl-C: the library asks, the
// command line knows.
#pragma once

#include <functional>
#include <stdexcept>

namespace mobe {

// Asked between the steps of long work, from the thread that called; true: stop
// here. Null: never.
using StopFn = std::function<bool()>;

// Thrown when it said so, after everything is in a state that the same command
// continues from. what() is one line: how far the work has come.
class Stopped : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// For work that any pause leaves in such a state.
inline void CheckStop(const StopFn& stop) {
  if (stop && stop()) {
    throw Stopped("stopped; run the same command to continue");
  }
}

}  // namespace mobe
