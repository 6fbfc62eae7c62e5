// Runs Python that a model wrote, with bounds: nobody vouches for it.
//
// It runs in a process of its own with limits of processor and wall time,
// memory, open files and sizes of files; in an empty folder that is removed
// afterwards; without the environment; and, where the kernel lets a user make
// namespaces, without network, with nothing of other processes to be seen or
// signalled, with every file outside the folder read-only, and with all that it
// started ended with it. It still reads what this user can read: let it run
// where there is nothing to find, as in a container.
#pragma once

#include <cstdint>
#include <string>

namespace mobe {

struct CodeLimits {
  double seconds = 3;  // as lm-eval's code_eval has
  int64_t memory = int64_t{1} << 30;
};

enum class CodeResult { kPassed, kFailed, kTimedOut };

// Whether there are namespaces for it here. Starts a process to see.
bool CodeIsApart();

// Runs a program; passed when it comes to its end: an exception or exit() is
// none. Fails with kMissing when there is no python3 on the PATH, with
// kUserInput when there is no folder for it, and with kOutOfMemory when no
// process can be started.
CodeResult RunPython(const std::string& program, const CodeLimits& limits);

}  // namespace mobe
