#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace mobe {

bool CanDraw(int fd) {
  const char* term = std::getenv("TERM");
  return ::isatty(fd) == 1 && term != nullptr && *term != '\0' &&
         std::string_view(term) != "dumb";
}

int ColumnsOfTerminal(int fd) {
  winsize size = {};
  const bool known = ::ioctl(fd, TIOCGWINSZ, &size) == 0;
  return known && size.ws_col > 0 ? size.ws_col : 80;
}

std::string WrapToColumns(std::string line, int columns) {
  const auto most = static_cast<size_t>(std::max(columns, 8));
  std::string text;
  while (line.size() > most) {
    // Behind an indent of two there is something.
    size_t end = line.rfind("  ", most);
    if (end == std::string::npos || end < 3) end = line.rfind(' ', most);
    if (end == std::string::npos || end < 3) break;
    const size_t next = line.find_first_not_of(' ', end);
    if (next == std::string::npos) break;
    text += line.substr(0, line.find_last_not_of(' ', end) + 1) + "\n";
    line = "  " + line.substr(next);
  }
  return text + line;
}

}  // namespace mobe
