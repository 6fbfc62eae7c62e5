// Ends a text at the first of some strings, wherever the pieces that it comes
// in are cut.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mobe {

class StopStrings {
 public:
  // Fails with kUserInput for an empty string, which would stop everything.
  explicit StopStrings(std::vector<std::string> stops);

  // Adds a piece; returns the text that can be shown now. Held back is what
  // may be the begin of a stop string; the stop string itself and all behind
  // it are never returned.
  std::string Push(std::string_view piece);
  // The rest, when the text has ended.
  std::string Finish();

  bool stopped() const { return !matched_.empty(); }
  // The stop string that was found; "": none.
  const std::string& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  std::string matched_;
};

}  // namespace mobe
