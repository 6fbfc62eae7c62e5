// The tokens of one text, and what of them was computed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/kv_cache.h"

namespace mobe {

struct Sequence {
  KvCache cache;                     // holds the first cache.length() tokens
  std::vector<int32_t> tokens = {};  // prompt, then those sampled

  std::span<const int32_t> Uncomputed() const {
    return std::span(tokens).subspan(static_cast<size_t>(cache.length()));
  }

  // Takes `prompt`, which must not be empty, in place of the tokens. What it
  // has in common with those in the cache stays there, but for its last token:
  // that one's logits are wanted.
  void Restart(std::span<const int32_t> prompt);
};

}  // namespace mobe
