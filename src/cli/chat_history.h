// The lines that were typed in chats, a file that outlives them.
#pragma once

#include <string>
#include <vector>

namespace mobe {

class ChatHistory {
 public:
  // mobe/chat_history in $XDG_STATE_HOME, or ~/.local/state; without a home
  // nothing is kept.
  ChatHistory();

  // The latest lines, the oldest first.
  std::vector<std::string> Read() const;
  // Chats may add at the same time. What can't be written is told once.
  void Add(const std::string& line);

 private:
  std::string path_;  // empty: nothing is kept
};

}  // namespace mobe
