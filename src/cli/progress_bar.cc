#include "cli/progress_bar.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <string>

namespace mobe {

ProgressBar::ProgressBar(const CommonOptions& common)
    : quiet_(common.quiet),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_seconds_(MonotonicSeconds()) {}

ProgressBar::~ProgressBar() { Erase(); }

void ProgressBar::Erase() {
  if (!drawn_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

void ProgressBar::Show(const ProgressEvent& event) {
  if (!event.warning.empty()) {
    Erase();
    PrintWarning(event.warning);
    return;
  }
  if (quiet_) return;
  if (start_fraction_ < 0) start_fraction_ = event.fraction;
  if (!event.line.empty()) {
    Erase();
    fmt::print(stderr, "{}\n", event.line);
    std::fflush(stderr);
  }
  if (!terminal_) return;
  const double now = MonotonicSeconds();
  if (event.line.empty() && now - last_draw_seconds_ < 0.1) return;
  last_draw_seconds_ = now;
  constexpr int kWidth = 24;
  const double fraction = std::clamp(event.fraction, 0.0, 1.0);
  const double gained = fraction - start_fraction_;
  const std::string eta =
      gained > 1e-3
          ? FormatDuration((now - start_seconds_) / gained * (1 - fraction))
          : "?";
  const int filled = static_cast<int>(fraction * kWidth);
  fmt::print(stderr, "\r\033[K[{}{}] {:3.0f}%  {}  ETA {}",
             std::string(filled, '#'), std::string(kWidth - filled, '.'),
             fraction * 100, event.what, eta);
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace mobe
