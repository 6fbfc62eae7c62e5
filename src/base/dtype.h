// Element types of stored tensors, and conversions of single values.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace mobe {

enum class DType {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,  // of scales: a power of two
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
};

// Bytes of one element.
int64_t DTypeSize(DType dtype);
// The name in safetensors headers: "BF16", "F8_E4M3", ...
const char* DTypeName(DType dtype);
std::optional<DType> DTypeFromName(std::string_view name);
// True for the types that float conversion below understands.
bool IsFloat(DType dtype);
bool IsInteger(DType dtype);

// bfloat16 is the upper half of a float32.
struct BFloat16 {
  uint16_t bits;
};

inline float ToFloat(BFloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

// Rounds to nearest, ties to even; NaN stays NaN.
inline BFloat16 ToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  }
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// IEEE 754 binary16.
struct Float16 {
  uint16_t bits;
};

// 8 bits of E4M3: exponent bias 7, largest value 448, no infinity, and NaN only
// as 0x7f and 0xff (OCP 8-bit floating point, revision 1.0).
struct Float8 {
  uint8_t bits;
};

inline float ToFloat(Float8 value) {
  constexpr uint32_t kNan = 0x7f;
  const uint32_t magnitude = value.bits & 0x7fu;
  // Exponent and mantissa meet float32's when shifted to their place, and what
  // is left is the difference of the biases, 127 - 7. Subnormals come along.
  const uint32_t bits = (value.bits & 0x80u) << 24 | magnitude << 20;
  const float exact = std::bit_cast<float>(bits) * 0x1p120f;
  return magnitude == kNan ? std::numeric_limits<float>::quiet_NaN() : exact;
}

// 8 bits of exponent: 2^(bits - 127), and NaN as 255 (OCP microscaling formats,
// revision 1.0).
struct PowerOfTwo {
  uint8_t bits;
};

inline float ToFloat(PowerOfTwo value) {
  constexpr uint32_t kNan = 0xff;
  if (value.bits == kNan) return std::numeric_limits<float>::quiet_NaN();
  if (value.bits == 0) return 0x1p-127f;  // below float32's normal numbers
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 23);
}

// IEEE binary16 from its bits, and the nearest binary16 (ties to even).
float HalfToFloat(uint16_t bits);
inline float ToFloat(Float16 value) { return HalfToFloat(value.bits); }
uint16_t FloatToHalf(float value);

// Element `index` of an array of `dtype` as a float; dtype must be IsFloat.
float LoadAsFloat(DType dtype, const void* data, int64_t index);
// Converts `count` elements from `data` to float32; dtype must be IsFloat.
void LoadAsFloats(DType dtype, const void* data, int64_t count, float* out);
// Converts float32 to `dtype` (F32, F16 or BF16) with rounding to nearest even.
void StoreFloats(const float* values, int64_t count, DType dtype, void* out);

}  // namespace mobe
