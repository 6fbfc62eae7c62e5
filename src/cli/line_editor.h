// Lines that are edited as they are typed: arrows, Ctrl-R, history (libedit,
// which reads ~/.editrc).
#pragma once

#include <memory>

#include "cli/line_reader.h"

namespace mobe {

// For standard input and output that are a terminal. Lines are kept in the
// history of chats (chat_history.h).
std::unique_ptr<LineReader> NewLineEditor(Interrupts* interrupts);

}  // namespace mobe
