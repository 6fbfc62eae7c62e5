#include "cli/progress_bar.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "base/error.h"
#include "base/visible.h"
#include "cli/terminal.h"

namespace mobe {
namespace {

constexpr double kSecondsOfDrawing = 0.1;
constexpr double kSecondsOfLine = 60;

}  // namespace

namespace internal {

std::string BarText(double fraction, const std::string& what,
                    const std::string& eta, int columns) {
  constexpr int kGap = 2;
  constexpr int kLeastWhat = 6;
  constexpr int kLeastBar = 5;
  constexpr int kMostBar = 24;
  std::string percent = fmt::format("{:3.0f}%", fraction * 100);
  const std::string end = fmt::format("ETA {}", eta);
  const auto fixed = static_cast<int>(percent.size());
  if (columns < fixed) return "";
  if (columns < fixed + kGap + static_cast<int>(end.size())) return percent;
  int room = columns - fixed - kGap - static_cast<int>(end.size());
  std::string middle;
  if (const int wanted = ColumnsOf(what);
      wanted > 0 && room >= kGap + std::min(wanted, kLeastWhat)) {
    middle = CutToColumns(what, room - kGap);
    room -= kGap + ColumnsOf(middle);
    middle.insert(0, kGap, ' ');
  }
  std::string bar;
  if (room >= kLeastBar + 3) {  // two brackets and a blank
    const int width = std::min(room - 3, kMostBar);
    const auto filled = static_cast<int>(fraction * width);
    bar = fmt::format("[{:#<{}}{:.<{}}] ", "", filled, "", width - filled);
  }
  return fmt::format("{}{}{}{:{}}{}", bar, percent, middle, "", kGap, end);
}

}  // namespace internal

ProgressBar::ProgressBar(const CommonOptions& common, ClockFn seconds)
    : seconds_(seconds),
      quiet_(common.quiet),
      draws_(CanDraw(STDERR_FILENO)),
      start_seconds_(seconds()),
      last_seconds_(draws_ ? 0 : start_seconds_) {}

ProgressBar::~ProgressBar() { Erase(); }

void ProgressBar::Erase() {
  if (!drawn_) return;
  std::fputs("\r\033[K", stderr);
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
    PrintNote(event.line);
  }
  const double now = seconds_();
  const bool cleared = draws_ && !event.line.empty();
  const double wait = draws_ ? kSecondsOfDrawing : kSecondsOfLine;
  if (!cleared && now - last_seconds_ < wait) return;
  last_seconds_ = now;
  const double fraction = std::clamp(event.fraction, 0.0, 1.0);
  const double gained = fraction - start_fraction_;
  const std::string eta =
      gained > 1e-3
          ? FormatDuration((now - start_seconds_) / gained * (1 - fraction))
          : "?";
  const std::string what = OneLine(event.what);
  if (draws_) {
    // Not in the last column, where terminals may begin a new line.
    fmt::print(stderr, "\r\033[K{}",
               internal::BarText(fraction, what, eta,
                                 ColumnsOfTerminal(STDERR_FILENO) - 1));
    drawn_ = true;
  } else {
    fmt::print(stderr, "{:.0f}%{}{}, ETA {}\n", fraction * 100,
               what.empty() ? "" : " ", what, eta);
  }
}

}  // namespace mobe
