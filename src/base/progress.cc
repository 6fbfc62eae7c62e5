#include "base/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace mobe {

double MonotonicSeconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::string FormatDuration(double seconds) {
  const auto total = static_cast<int64_t>(std::llround(std::max(seconds, 0.0)));
  if (total >= 3600) {
    return fmt::format("{}h{:02}m", total / 3600, total / 60 % 60);
  }
  if (total >= 60) return fmt::format("{}m{:02}s", total / 60, total % 60);
  return fmt::format("{}s", total);
}

std::string FormatBytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  int unit = 0;
  while (bytes >= 1000 && unit < 5) {
    bytes /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes)
                   : fmt::format("{:.2f} {}", bytes, kUnits[unit]);
}

ProgressBar::ProgressBar(std::FILE* out, bool quiet)
    : out_(out),
      quiet_(quiet),
      terminal_(::isatty(::fileno(out)) == 1),
      start_seconds_(MonotonicSeconds()) {}

ProgressBar::~ProgressBar() { Erase(); }

void ProgressBar::Erase() {
  if (!drawn_) return;
  std::fputs("\r\033[K", out_);
  std::fflush(out_);
  drawn_ = false;
}

void ProgressBar::Show(const ProgressEvent& event) {
  if (quiet_) return;
  if (start_fraction_ < 0) start_fraction_ = event.fraction;
  if (!event.line.empty()) {
    Erase();
    fmt::print(out_, "{}\n", event.line);
    std::fflush(out_);
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
  fmt::print(out_, "\r\033[K[{}{}] {:3.0f}%  {}  ETA {}",
             std::string(filled, '#'), std::string(kWidth - filled, '.'),
             fraction * 100, event.what, eta);
  std::fflush(out_);
  drawn_ = true;
}

}  // namespace mobe
