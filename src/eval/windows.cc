#include "eval/windows.h"

#include <algorithm>

namespace mobe {

std::span<const Protocol> Protocols() {
  static constexpr Protocol kProtocols[] = {
      {.name = "hf",
       .context = 2048,
       .whole_only = false,
       .second_half = false,
       .starts_at_bos = false},
      {.name = "llama.cpp",
       .context = 512,
       .whole_only = true,
       .second_half = true,
       .starts_at_bos = true},
  };
  return kProtocols;
}

std::vector<Window> SplitWindows(const Protocol& protocol, int64_t context,
                                 int64_t tokens) {
  std::vector<Window> windows;
  for (int64_t begin = 0; begin < tokens; begin += context) {
    const int64_t end = std::min(begin + context, tokens);
    if (protocol.whole_only && end - begin < context) break;
    // The logits of a position predict the token behind it.
    const int64_t first = begin + (protocol.second_half ? context / 2 : 0) + 1;
    if (first < end) windows.push_back({begin, first, end});
  }
  return windows;
}

int64_t PredictedTokens(std::span<const Window> windows) {
  int64_t tokens = 0;
  for (const Window& window : windows) tokens += window.end - window.first;
  return tokens;
}

}  // namespace mobe
