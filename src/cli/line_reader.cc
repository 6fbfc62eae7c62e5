#include "cli/line_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "cli/command.h"
#include "cli/line_editor.h"
#include "cli/terminal.h"

namespace mobe {
namespace {

class PlainLines : public LineReader {
 public:
  explicit PlainLines(Interrupts* interrupts);
  PlainLines(const PlainLines&) = delete;
  PlainLines& operator=(const PlainLines&) = delete;
  ~PlainLines() override;
  Outcome Read(const std::string& prompt, std::string* line) override;

 private:
  Interrupts* interrupts_;
  int fd_ = STDIN_FILENO;
  std::string held_;  // read, but not yet given
};

// On Ctrl-C a terminal drops what was typed, perhaps between poll and read,
// which would then wait for the next line: so it does not wait. The terminal is
// opened anew for that, since others share the one that is open.
PlainLines::PlainLines(Interrupts* interrupts) : interrupts_(interrupts) {
  if (::isatty(STDIN_FILENO) == 0) return;
  const int fd =
      ::open("/dev/stdin", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd >= 0) fd_ = fd;
}

PlainLines::~PlainLines() {
  if (fd_ != STDIN_FILENO) ::close(fd_);
}

LineReader::Outcome PlainLines::Read(const std::string& prompt,
                                     std::string* line) {
  if (::isatty(fd_) == 1) PrintText(prompt);
  size_t searched = 0;
  for (;;) {
    const size_t end = held_.find('\n', searched);
    if (end != std::string::npos) {
      *line = held_.substr(0, end);
      held_.erase(0, end + 1);
      if (line->ends_with('\r')) line->pop_back();
      return Outcome::kLine;
    }
    searched = held_.size();
    pollfd waited[] = {{fd_, POLLIN, 0}, {interrupts_->fd(), POLLIN, 0}};
    if (::poll(waited, std::size(waited), -1) < 0 && errno != EINTR) {
      Fail(ErrorKind::kInternal, "poll: {}", std::strerror(errno));
    }
    if (interrupts_->Take()) {
      held_.clear();
      return Outcome::kInterrupted;
    }
    if (waited[0].revents == 0) continue;
    std::array<char, 4096> buffer;
    const ssize_t size = ::read(fd_, buffer.data(), buffer.size());
    if (size < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (size > 0) {
      held_.append(buffer.data(), static_cast<size_t>(size));
      continue;
    }
    // The end, or nothing that could be read any more.
    *line = std::exchange(held_, {});
    return line->empty() ? Outcome::kEnd : Outcome::kLine;
  }
}

}  // namespace

std::unique_ptr<LineReader> NewLineReader(Interrupts* interrupts) {
  if (CanDraw(STDIN_FILENO) && CanDraw(STDOUT_FILENO)) {
    return NewLineEditor(interrupts);
  }
  return std::make_unique<PlainLines>(interrupts);
}

}  // namespace mobe
