// Text and numbers as people may be shown them.
//
// What others wrote (names in files, paths, what a model says) could, raw, move
// the cursor, recolour or retitle a terminal, or make a line read as another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mobe {

enum class Lines {
  kOne,   // a line feed and a tab are escaped as all controls are
  kMany,  // they stay
};

// `text` with these written out as in JSON ("\n", "\u001b", "\u202e"), so that
// escaped JSON stays what it was:
// - C0 and C1 controls and DEL, less those that `lines` leaves,
// - embeddings, overrides and isolates of bidirectional text (UAX #9), line and
//   paragraph separators;
// and a byte that is no UTF-8 as "\xff". Backslashes stay as they are.
std::string Visible(std::string_view text, Lines lines = Lines::kOne);

// `text` with at most `max_bytes` bytes, and " ... " for what was taken out of
// its middle, no character of it cut.
std::string CutMiddle(std::string text, size_t max_bytes);

// Columns of a terminal that `text`, as Visible gives it, takes.
int ColumnsOf(std::string_view text);

// As much of its beginning as takes at most `columns` columns; what is cut ends
// in "..", if there is room for that.
std::string CutToColumns(const std::string& text, int columns);

// "1,234,567".
std::string FormatCount(int64_t count);

}  // namespace mobe
