#include "model/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace mobe {
namespace {

// Length of the longest end of `text` that is a begin of `stop`.
size_t OverlapWith(std::string_view stop, std::string_view text) {
  size_t length = std::min(stop.size() - 1, text.size());
  while (!text.ends_with(stop.substr(0, length))) --length;
  return length;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops)
    : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    if (stop.empty()) Fail(ErrorKind::kUserInput, "a stop string is empty");
  }
}

std::string StopStrings::Push(std::string_view piece) {
  if (stopped()) return "";
  held_ += piece;
  size_t first = std::string::npos;
  size_t held_back = 0;
  for (const std::string& stop : stops_) {
    if (const size_t at = held_.find(stop); at < first) {
      first = at;
      matched_ = stop;
    }
    held_back = std::max(held_back, OverlapWith(stop, held_));
  }
  const size_t shown = stopped() ? first : held_.size() - held_back;
  std::string text = held_.substr(0, shown);
  held_.erase(0, stopped() ? std::string::npos : shown);
  return text;
}

std::string StopStrings::Finish() { return std::exchange(held_, ""); }

}  // namespace mobe
