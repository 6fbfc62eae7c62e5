// What a mistyped word was meant to be.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mobe {

// The candidate that `word` is a beginning of (of three letters or more), or
// that it becomes by the fewest letters added, dropped, replaced, or exchanged
// with the next: at most one of three. Empty when there is none.
std::string ClosestTo(std::string_view word,
                      const std::vector<std::string>& candidates);

// "; did you mean compress?", or nothing.
std::string DidYouMean(std::string_view word,
                       const std::vector<std::string>& candidates);

}  // namespace mobe
