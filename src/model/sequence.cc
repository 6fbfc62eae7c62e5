#include "model/sequence.h"

#include <algorithm>

namespace mobe {

void Sequence::Restart(std::span<const int32_t> prompt) {
  const auto known =
      std::span(tokens).first(static_cast<size_t>(cache.length()));
  const int64_t common =
      std::ranges::mismatch(prompt, known).in1 - prompt.begin();
  cache.Truncate(std::min(common, std::ssize(prompt) - 1));
  tokens.assign(prompt.begin(), prompt.end());
}

}  // namespace mobe
