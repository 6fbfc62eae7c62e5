#pragma once

#include <cstdint>

namespace mobe {

// Tokens, or pairs of token and expert, that one task of an element-wise loop
// handles.
inline constexpr int64_t kTokenGrain = 8;

}  // namespace mobe
