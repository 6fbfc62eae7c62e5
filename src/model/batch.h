// What one forward pass takes, and a layer of it: tokens of several sequences.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/linear.h"
#include "model/kv_cache.h"

namespace mobe {

// Which tokens' logits are wanted.
enum class LogitsFor { kAll, kLast, kNone };

// Tokens of one sequence. They follow those in its cache, to which they are
// added.
struct BatchPart {
  std::span<const int32_t> tokens;  // one or more; of kDecode one
  KvCache* cache;                   // no other part's
  LogitsFor logits;
  Phase phase = Phase::kPrefill;
  // Where the tokens are a part of those that are computed of a prompt: how
  // many went before them, and how many are to come.
  int64_t before = 0;
  int64_t after = 0;
};

// The tokens of one sequence in a pass: its rows [first, first + count), and of
// the same prompt as of BatchPart.
struct SequenceRows {
  int64_t first;
  int64_t count;
  KvCache* cache;
  // Of the first token: how many are in the cache, or come into it before, by
  // another pass through the same layer.
  int64_t position;
  int64_t before = 0;
  int64_t after = 0;
};

}  // namespace mobe
