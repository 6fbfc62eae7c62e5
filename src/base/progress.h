// Progress and warnings of long jobs: the library reports, the command line
// draws (cli/progress_bar.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace mobe {

// What long work tells its caller, whoever shows it.
struct ProgressEvent {
  double fraction = 0;    // of the whole job, in [0, 1]
  std::string what = {};  // "layer 3 gate"
  std::string line = {};  // non-empty: a result worth a line of its own
  // Non-empty: what the user has to know though the work goes on, one line; the
  // event has nothing else then. What hands events on hands these on as they
  // are.
  std::string warning = {};
};

using ProgressFn = std::function<void(const ProgressEvent&)>;

// For a ProgressFn.
inline ProgressEvent Warning(std::string line) {
  return {.warning = std::move(line)};
}

// Seconds on a clock that never goes back.
double MonotonicSeconds();

// "1h02m", "3m05s", "12s".
std::string FormatDuration(double seconds);

// "1.23 GB" in powers of 1000, as disks are sold.
std::string FormatBytes(double bytes);

}  // namespace mobe
