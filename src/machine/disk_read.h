// How fast files are read from the disk, rather than from the page cache.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace mobe {

struct DiskRead {
  int64_t bytes = 0;  // that were read; 0: nothing could be
  double seconds = 0;
  bool direct = false;  // past the page cache (O_DIRECT)
  std::string note;     // what makes the number doubtful; empty: nothing

  double BytesPerSecond() const {
    return seconds > 0 ? static_cast<double>(bytes) / seconds : 0;
  }
};

// Reads the files from their beginning in requests of 2 MiB, several at a time,
// for at most `seconds`; writes nothing. Where direct reading is refused, as on
// file systems in memory, it asks the kernel to forget the pages and reads
// through the page cache, and says so. Fails with kMissing for a file that
// can't be opened or read.
DiskRead MeasureReading(const std::vector<std::filesystem::path>& files,
                        double seconds);

}  // namespace mobe
