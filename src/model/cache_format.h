// How the numbers of a cache are stored.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace mobe {

struct CacheFormat {
  const char* name;  // "f32"
  DType dtype;
  bool scaled;  // each vector of a token by a float32 of its own
  // to [count], of the dtype, = x, rounded; returns the scale.
  float (*store)(const float* x, int64_t count, void* to);
  // to [count] = from, without the scale.
  void (*load)(const void* from, int64_t count, float* to);

  bool operator==(const CacheFormat&) const = default;
};

// f32, bf16 and int8: 32, 16 and a little more than 8 bits a number. What they
// cost in quality, docs/benchmarks.md tells.
extern const CacheFormat kCacheFormats[3];
// Nothing is rounded: for measuring.
inline constexpr const CacheFormat& kExactCache = kCacheFormats[0];
// Half the memory, and predictions change by about as much as in bfloat16
// arithmetic: for texts.
inline constexpr const CacheFormat& kTextCache = kCacheFormats[1];

}  // namespace mobe
