// What the terminal behind a descriptor can do.
#pragma once

namespace mobe {

// Whether what is drawn there can be drawn over: it is a terminal, and TERM
// says of which kind, not "dumb".
bool CanDraw(int fd);

// Its width at the moment; 80 where that is not known.
int ColumnsOfTerminal(int fd);

}  // namespace mobe
