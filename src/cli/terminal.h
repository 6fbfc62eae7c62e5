// What the terminal behind a descriptor can do.
#pragma once

#include <string>
#include <string_view>

namespace mobe {

// Whether what is drawn there can be drawn over: it is a terminal, and TERM
// says of which kind, not "dumb".
bool CanDraw(int fd);

// Its width at the moment; 80 where that is not known.
int ColumnsOfTerminal(int fd);

// A line in several of at most `columns`, where it has blanks to break at,
// rather two than one if that leaves no line half empty; all but the first
// begin with two.
std::string WrapToColumns(std::string line, int columns);
// The same of each line of a text.
std::string WrapLines(std::string_view text, int columns);

}  // namespace mobe
