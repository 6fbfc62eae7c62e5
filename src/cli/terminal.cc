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
    size_t end = line.rfind("  ", most);
    if (end == std::string::npos || end < most / 2) end = line.rfind(' ', most);
    // Behind an indent of two there is something; a longer word stays whole.
    if (end == std::string::npos || end < 3) end = line.find(' ', most);
    if (end == std::string::npos) break;
    const size_t next = line.find_first_not_of(' ', end);
    if (next == std::string::npos) break;
    text += line.substr(0, line.find_last_not_of(' ', end) + 1) + "\n";
    line = "  " + line.substr(next);
  }
  return text + line;
}

std::string WrapLines(std::string_view text, int columns) {
  std::string wrapped;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    wrapped += WrapToColumns(std::string(text.substr(0, end)), columns);
    if (end < text.size()) wrapped += '\n';
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return wrapped;
}

}  // namespace mobe
