#include "model/stop_strings.h"

#include <utility>

#include "base/error.h"
#include "text/first_mark.h"

namespace mobe {
StopStrings::StopStrings(std::vector<std::string> stops)
    : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    if (stop.empty()) Fail(ErrorKind::kUserInput, "a stop string is empty");
  }
}

std::string StopStrings::Push(std::string_view piece) {
  if (stopped()) return "";
  held_ += piece;
  const FirstMark first = FindFirstMark(held_, stops_);
  matched_ = first.mark;
  const size_t shown = stopped() ? first.at : held_.size() - first.unsure;
  std::string text = held_.substr(0, shown);
  held_.erase(0, stopped() ? std::string::npos : shown);
  return text;
}

std::string StopStrings::Finish() { return std::exchange(held_, ""); }

}  // namespace mobe
