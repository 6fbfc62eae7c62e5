// What the terminal behind a descriptor can do.
#pragma once

#include <string>

namespace mobe {

// Whether what is drawn there can be drawn over: it is a terminal, and TERM
// says of which kind, not "dumb".
bool CanDraw(int fd);

// Its width at the moment; 80 where that is not known.
int ColumnsOfTerminal(int fd);

// A line in several of at most `columns`, where it has blanks to break at,
// rather two than one; all but the first begin with two.
std::string WrapToColumns(std::string line, int columns);

}  // namespace mobe
