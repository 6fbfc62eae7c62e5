// What one forward pass takes, and a layer of it: tokens of several sequences.
#pragma once

#include <cstdint>
#include <span>

#include "model/kv_cache.h"

namespace mobe {

// Which tokens' logits are wanted.
enum class LogitsFor { kAll, kLast, kNone };

// Tokens of one sequence. They follow those in its cache, to which they are
// added.
struct BatchPart {
  std::span<const int32_t> tokens;  // one or more
  KvCache* cache;                   // no other part's
  LogitsFor logits;
};

// The tokens of one sequence in a batch: its rows [first, first + count).
struct SequenceRows {
  int64_t first;
  int64_t count;
  KvCache* cache;
};

}  // namespace mobe
