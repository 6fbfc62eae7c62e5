#include "cli/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cwchar>
#include <iterator>

#include "base/error.h"
#include "cli/chat_history.h"

namespace mobe {
namespace {

class EditedLines : public LineReader {
 public:
  explicit EditedLines(Interrupts* interrupts);
  EditedLines(const EditedLines&) = delete;
  EditedLines& operator=(const EditedLines&) = delete;
  ~EditedLines() override;
  Outcome Read(const std::string& prompt, std::string* line) override;

 private:
  // libedit's: gives one character and 1, or 0 at the end of input, or -1.
  static int ReadCharacter(EditLine* editor, wchar_t* character);
  static const char* Prompt(EditLine* editor);
  int NextCharacter(wchar_t* character);
  void DrawAnew();
  void Remember(const std::string& line);

  Interrupts* interrupts_;
  EditLine* editor_;
  History* history_;
  ChatHistory file_;
  std::string prompt_;
  std::string last_;  // line that was remembered
  bool interrupted_ = false;
};

EditedLines* Self(EditLine* editor) {
  void* self = nullptr;
  ::el_get(editor, EL_CLIENTDATA, &self);
  return static_cast<EditedLines*>(self);
}

// Readable when the program is in the foreground again, or the window has
// another size. Which thread gets the signal is the kernel's affair.
int g_changes = -1;

void CountChange(int) {
  const int saved = errno;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(g_changes, &one, sizeof one);
  errno = saved;
}

void WatchTerminal() {
  g_changes = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  struct sigaction action {};
  action.sa_handler = CountChange;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGCONT, SIGWINCH}) {
    ::sigaction(signal, &action, nullptr);
  }
}

bool TerminalChanged() {
  uint64_t count = 0;
  return ::read(g_changes, &count, sizeof count) == sizeof count;
}

EditedLines::EditedLines(Interrupts* interrupts)
    : interrupts_(interrupts),
      editor_(::el_init("mobe", stdin, stdout, stderr)),
      history_(::history_init()) {
  if (editor_ == nullptr || history_ == nullptr) {
    Fail(ErrorKind::kInternal, "libedit cannot edit on this terminal");
  }
  // What libedit converts by. Everything here is UTF-8, whatever LANG says.
  std::setlocale(LC_CTYPE, "C.UTF-8");
  WatchTerminal();
  ::el_set(editor_, EL_CLIENTDATA, this);
  ::el_set(editor_, EL_PROMPT, Prompt);
  ::el_set(editor_, EL_GETCFN, ReadCharacter);
  ::el_set(editor_, EL_SIGNAL, 0);
  ::el_set(editor_, EL_EDITOR, "emacs");
  ::el_set(editor_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  HistEvent event;
  ::history(history_, &event, H_SETSIZE, 1000);
  ::el_set(editor_, EL_HIST, ::history, history_);
  for (const std::string& line : file_.Read()) {
    ::history(history_, &event, H_ENTER, line.c_str());
    last_ = line;
  }
  ::el_source(editor_, nullptr);
}

EditedLines::~EditedLines() {
  ::el_end(editor_);
  ::history_end(history_);
}

const char* EditedLines::Prompt(EditLine* editor) {
  return Self(editor)->prompt_.c_str();
}

int EditedLines::ReadCharacter(EditLine* editor, wchar_t* character) {
  return Self(editor)->NextCharacter(character);
}

void EditedLines::DrawAnew() {
  // A shell gave the terminal its own modes meanwhile.
  ::el_set(editor_, EL_PREP_TERM, 0);
  ::el_set(editor_, EL_PREP_TERM, 1);
  ::el_resize(editor_);
  std::fputs("\r\033[K", stdout);
  ::el_set(editor_, EL_REFRESH);
}

int EditedLines::NextCharacter(wchar_t* character) {
  std::mbstate_t state = {};
  for (;;) {
    pollfd waited[] = {{STDIN_FILENO, POLLIN, 0},
                       {interrupts_->fd(), POLLIN, 0},
                       {g_changes, POLLIN, 0}};
    if (::poll(waited, std::size(waited), -1) < 0 && errno != EINTR) return -1;
    if (TerminalChanged()) DrawAnew();
    if (interrupts_->Take()) {
      interrupted_ = true;
      return -1;
    }
    if (waited[0].revents == 0) continue;
    char byte = 0;
    const ssize_t size = ::read(STDIN_FILENO, &byte, 1);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return static_cast<int>(size);
    // Ctrl-D that was typed while the model answered: the terminal, which kept
    // lines then, gives its mark of an end as a 0.
    if (byte == 0) return 0;
    const size_t used = std::mbrtowc(character, &byte, 1, &state);
    if (used == static_cast<size_t>(-2)) continue;  // of a longer character
    if (used == static_cast<size_t>(-1)) *character = L'\uFFFD';
    return 1;
  }
}

void EditedLines::Remember(const std::string& line) {
  if (line.empty() || line == last_) return;
  HistEvent event;
  ::history(history_, &event, H_ENTER, line.c_str());
  file_.Add(line);
  last_ = line;
}

LineReader::Outcome EditedLines::Read(const std::string& prompt,
                                      std::string* line) {
  prompt_ = prompt;
  interrupted_ = false;
  if (TerminalChanged()) ::el_resize(editor_);  // while an answer was printed
  // el_gets would do so behind the prompt, and what is typed between them would
  // be the terminal's, not ours.
  ::el_set(editor_, EL_PREP_TERM, 1);
  int size = 0;
  const char* text = ::el_gets(editor_, &size);
  if (interrupted_) {
    std::fputs("^C", stdout);
    std::fflush(stdout);
    return Outcome::kInterrupted;
  }
  if (text == nullptr) return Outcome::kEnd;
  *line = text;
  while (line->ends_with('\n') || line->ends_with('\r')) line->pop_back();
  Remember(*line);
  return Outcome::kLine;
}

}  // namespace

std::unique_ptr<LineReader> NewLineEditor(Interrupts* interrupts) {
  return std::make_unique<EditedLines>(interrupts);
}

}  // namespace mobe
