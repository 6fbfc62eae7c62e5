#include "cli/chat_history.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "cli/command.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLinesOfHistory = 1000;

// Of an environment variable, where it is an absolute path.
fs::path FolderIn(const char* variable) {
  const char* value = std::getenv(variable);
  const fs::path path = value == nullptr ? "" : value;
  return path.is_absolute() ? path : fs::path();
}

fs::path HistoryPath() {
  if (const fs::path state = FolderIn("XDG_STATE_HOME"); !state.empty()) {
    return state / "mobe/chat_history";
  }
  const fs::path home = FolderIn("HOME");
  return home.empty() ? home : home / ".local/state/mobe/chat_history";
}

std::vector<std::string> ReadAllLines(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// In one write: lines of several chats don't mix. For its owner's eyes only.
void Append(const fs::path& path, const std::string& line) {
  MakeFolder(path.parent_path());
  const int fd =
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const std::string text = line + "\n";
  const bool written = fd >= 0 && ::write(fd, text.data(), text.size()) ==
                                      static_cast<ssize_t>(text.size());
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (written) return;
  Fail(ErrorKind::kUserInput, "{}: cannot be written: {}", path.string(),
       std::strerror(error));
}

}  // namespace

ChatHistory::ChatHistory() : path_(HistoryPath()) {}

std::vector<std::string> ChatHistory::Read() const {
  std::vector<std::string> lines = ReadAllLines(path_);
  if (lines.size() > kLinesOfHistory) {
    lines.erase(lines.begin(), lines.end() - kLinesOfHistory);
  }
  return lines;
}

void ChatHistory::Add(const std::string& line) {
  if (path_.empty()) return;
  try {
    Append(path_, line);
  } catch (const Error& e) {
    path_.clear();
    PrintNote(fmt::format("({}; what you type is not kept)", e.what()));
  }
}

}  // namespace mobe
