// Progress of long jobs: the library reports, the command line draws.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

namespace mobe {

struct ProgressEvent {
  double fraction = 0;  // of the whole job, in [0, 1]
  std::string what;     // "layer 3 gate"
  std::string line;     // non-empty: a result worth a line of its own
};

using ProgressFn = std::function<void(const ProgressEvent&)>;

// Draws events on a stream: a bar with an ETA where the stream is a terminal,
// only the result lines where it is not, nothing when quiet.
class ProgressBar {
 public:
  ProgressBar(std::FILE* out, bool quiet);
  ~ProgressBar();
  void Show(const ProgressEvent& event);
  ProgressFn AsFunction() {
    return [this](const ProgressEvent& event) { Show(event); };
  }

 private:
  void Erase();

  std::FILE* out_;
  bool quiet_;
  bool terminal_;
  bool drawn_ = false;
  double start_seconds_;
  double last_draw_seconds_ = 0;
  // A resumed job starts above zero; the ETA counts from there.
  double start_fraction_ = -1;
};

// Seconds on a clock that never goes back.
double MonotonicSeconds();

// "1h02m", "3m05s", "12s".
std::string FormatDuration(double seconds);

// "1.23 GB" in powers of 1000, as disks are sold.
std::string FormatBytes(double bytes);

}  // namespace mobe
