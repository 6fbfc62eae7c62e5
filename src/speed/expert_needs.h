// What each way of running a model's experts needs, and how fast it can decode
// at best.
#pragma once

#include <cstdint>
#include <vector>

#include "machine/peaks.h"
#include "speed/outline.h"

namespace mobe {

struct ExpertNeed {
  const char* mode = "";     // "plain", "built bfloat16", "fused", ...
  int64_t memory_bytes = 0;  // of weights that are read again and again
  int64_t token_bytes = 0;   // of weights, for a token: as DecodeBytes
  double token_operations = 0;
};

// A line for each mode that the model can be run in: of a plain model one.
// Built experts are as large as the original's.
std::vector<ExpertNeed> ListExpertNeeds(const Outline& outline);

// Tokens a second of one sequence in a short context, at most: reading, and
// arithmetic, which is of float32 with one token at a time.
struct DecodeBound {
  double by_reading = 0;
  double by_arithmetic = 0;
  double both() const;
};
DecodeBound BoundDecode(const ExpertNeed& need, const Peaks& peaks);

}  // namespace mobe
