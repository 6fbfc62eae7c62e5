// What each way of running a model's experts needs, and how fast it can decode
// at best.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "machine/peaks.h"
#include "speed/outline.h"

namespace mobe {

// Of experts the most used of which are built.
struct BuiltShare {
  int64_t built = 0;
  int64_t all = 0;
  double share() const {
    return all == 0 ? 0 : static_cast<double>(built) / static_cast<double>(all);
  }
};

struct ExpertNeed {
  const char* mode = "";     // "plain", "built bfloat16", "fused", ...
  int64_t memory_bytes = 0;  // of weights that are read again and again
  // For a token from the disk, when none of its experts are in memory.
  int64_t disk_bytes = 0;
  int64_t token_bytes = 0;  // of weights, for a token: as DecodeBytes
  double token_operations = 0;
  std::optional<BuiltShare> cached = {};
};

// A line for each mode that the model can be run in. Experts built in bfloat16
// are as large as the original's. What is streamed has room for two experts.
// Where they are cached, as many are built as `bytes` of memory for weights
// have room for beside the factors, and a use finds one built as if all were
// picked alike often: the least, for those that are picked more often are what
// is built.
std::vector<ExpertNeed> ListExpertNeeds(const Outline& outline, int64_t bytes);

// Tokens a second of one sequence in a short context, at most: by reading
// memory, by arithmetic, which is of float32 with one token at a time, and by
// the disk, which reads so many bytes a second.
struct DecodeBound {
  double by_reading = 0;
  double by_arithmetic = 0;
  std::optional<double> by_disk;  // nothing: it reads none, or is not known
  double least() const;
};
DecodeBound BoundDecode(const ExpertNeed& need, const Peaks& peaks,
                        double disk_bytes_per_second);

}  // namespace mobe
