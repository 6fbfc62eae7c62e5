// Lines from standard input, which Ctrl-C interrupts.
#pragma once

#include <memory>
#include <string>

#include "cli/stop_signals.h"

namespace mobe {

class LineReader {
 public:
  virtual ~LineReader() = default;

  enum class Outcome {
    kLine,  // without its end, \n or \r\n; also what lies before the end of
            // input
    kEnd,   // of the input
    kInterrupted,  // what was typed in the line is forgotten
  };
  // Shows `prompt` where somebody types.
  virtual Outcome Read(const std::string& prompt, std::string* line) = 0;
};

// With editing and history (line_editor.h) where standard input and output are
// a terminal that can do that; else as the lines come. `interrupts` must
// outlive the reader.
std::unique_ptr<LineReader> NewLineReader(Interrupts* interrupts);

}  // namespace mobe
