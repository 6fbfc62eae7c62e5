// What long work tells, on stderr.
#pragma once

#include <string>

#include "base/progress.h"
#include "cli/command.h"

namespace mobe {

// Draws events. On a terminal: a bar with an ETA, in the width that it has at
// each drawing. Elsewhere, and where TERM is dumb or not set: a line a minute.
// Result lines on either. With --quiet nothing but warnings.
class ProgressBar {
 public:
  // `seconds` is what the time is.
  using ClockFn = double (*)();
  explicit ProgressBar(const CommonOptions& common,
                       ClockFn seconds = MonotonicSeconds);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();
  void Show(const ProgressEvent& event);
  ProgressFn AsFunction() {
    return [this](const ProgressEvent& event) { Show(event); };
  }

 private:
  void Erase();

  const ClockFn seconds_;
  bool quiet_;
  bool draws_;  // a bar that is drawn over, rather than lines
  bool drawn_ = false;
  double start_seconds_;
  double last_seconds_;  // of a drawing, or a line a minute
  // A resumed job starts above zero; the ETA counts from there.
  double start_fraction_ = -1;
};

namespace internal {

// The bar, in at most `columns` columns: percent and ETA first, then as much of
// `what` as there is room for, then the bar.
std::string BarText(double fraction, const std::string& what,
                    const std::string& eta, int columns);

}  // namespace internal

}  // namespace mobe
