// Overflow-checked arithmetic for numbers that come from files.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace mobe {

// a * b, or nothing when it does not fit.
inline std::optional<uint64_t> CheckedMul(uint64_t a, uint64_t b) {
  uint64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

inline std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b) {
  uint64_t result = 0;
  if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
  return result;
}

// The number of elements of a tensor (1 for a scalar), or nothing when the
// product does not fit. As in the safetensors library, a zero anywhere does not
// excuse an overflow that comes before it.
inline std::optional<uint64_t> CheckedProduct(std::span<const int64_t> shape) {
  uint64_t product = 1;
  for (int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    auto next = CheckedMul(product, static_cast<uint64_t>(dim));
    if (!next) return std::nullopt;
    product = *next;
  }
  return product;
}

}  // namespace mobe
