// The first of some marks in a text that comes in pieces.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace mobe {

struct FirstMark {
  size_t at = std::string_view::npos;  // npos: none is there
  std::string_view mark =
      {};  // that one; of those at one place the first given
  // How much of the text's end may be the begin of a mark.
  size_t unsure = 0;
};

// No mark may be empty. `Marks` is a range of what converts to string_view.
template <class Marks>
FirstMark FindFirstMark(std::string_view text, const Marks& marks) {
  FirstMark first;
  for (const std::string_view mark : marks) {
    if (const size_t at = text.find(mark); at < first.at) {
      first.at = at;
      first.mark = mark;
    }
    size_t length = std::min(mark.size() - 1, text.size());
    while (!text.ends_with(mark.substr(0, length))) --length;
    first.unsure = std::max(first.unsure, length);
  }
  return first;
}

}  // namespace mobe
