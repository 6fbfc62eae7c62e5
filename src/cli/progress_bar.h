// What long work tells, on stderr.
#pragma once

#include <cstdio>

#include "base/progress.h"
#include "cli/command.h"

namespace mobe {

// Draws events: a bar with an ETA where stderr is a terminal, only the result
// lines where it is not, nothing with --quiet but warnings.
class ProgressBar {
 public:
  explicit ProgressBar(const CommonOptions& common);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();
  void Show(const ProgressEvent& event);
  ProgressFn AsFunction() {
    return [this](const ProgressEvent& event) { Show(event); };
  }

 private:
  void Erase();

  bool quiet_;
  bool terminal_;
  bool drawn_ = false;
  double start_seconds_;
  double last_draw_seconds_ = 0;
  // A resumed job starts above zero; the ETA counts from there.
  double start_fraction_ = -1;
};

}  // namespace mobe
