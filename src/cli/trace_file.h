// The file of compress --trace: the error of each pass of each matrix, as CSV.
#pragma once

#include <cstdint>
#include <fstream>
#include <set>
#include <string>

#include "cli/output_file.h"

namespace mobe {

class TraceFile {
 public:
  // Nothing is written yet: the trace of a job that had finished stays. Fails
  // with kUserInput where it could not be, or where the job in `out` writes.
  // `continues`: rows of what had been fitted stay.
  TraceFile(const OutputFile& file, const std::string& out, bool continues);

  // Fails with kDiskFull, as Close does.
  void Add(int64_t layer, const std::string& kind, int64_t pass, double seconds,
           double mse);
  void Close();
  bool is_written() const { return file_.is_open(); }

 private:
  void Write(const std::string& text);
  void Open(const std::string& kept);
  // All rows but those of a matrix that is fitted anew.
  std::string RowsWithout(const std::string& matrix);

  const std::string path_;
  const bool continues_;
  std::set<std::string> matrices_;
  // A stream, not an AtomicFile: it is read while the job runs.
  std::ofstream file_;
};

}  // namespace mobe
