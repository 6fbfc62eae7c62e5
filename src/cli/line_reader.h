// Lines from standard input, which Ctrl-C interrupts.
#pragma once

#include <string>

#include "cli/stop_signals.h"

namespace mobe {

class LineReader {
 public:
  // `interrupts` must outlive the reader.
  explicit LineReader(Interrupts* interrupts);
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader();

  enum class Outcome {
    kLine,  // without its end, \n or \r\n; also what lies before the end of
            // input
    kEnd,   // of the input
    kInterrupted,  // what was typed in the line is forgotten
  };
  Outcome Read(std::string* line);

 private:
  Interrupts* interrupts_;
  int fd_ = 0;        // standard input
  std::string held_;  // read, but not yet given
};

}  // namespace mobe
