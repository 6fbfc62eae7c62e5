#include "base/dtype.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace mobe {
namespace {

struct DTypeRow {
  DType dtype;
  const char* name;
  int size;
  bool is_float;
  bool is_integer;
};

// In the order of the enum.
constexpr DTypeRow kDTypes[] = {
    {DType::kBool, "BOOL", 1, false, false},
    {DType::kU8, "U8", 1, false, true},
    {DType::kI8, "I8", 1, false, true},
    {DType::kF8E4M3, "F8_E4M3", 1, true, false},
    {DType::kF8E5M2, "F8_E5M2", 1, false, false},
    {DType::kF8E8M0, "F8_E8M0", 1, true, false},
    {DType::kI16, "I16", 2, false, true},
    {DType::kU16, "U16", 2, false, true},
    {DType::kF16, "F16", 2, true, false},
    {DType::kBF16, "BF16", 2, true, false},
    {DType::kI32, "I32", 4, false, true},
    {DType::kU32, "U32", 4, false, true},
    {DType::kF32, "F32", 4, true, false},
    {DType::kI64, "I64", 8, false, true},
    {DType::kU64, "U64", 8, false, true},
    {DType::kF64, "F64", 8, false, false},
};

const DTypeRow& Row(DType dtype) { return kDTypes[static_cast<int>(dtype)]; }

template <class T>
T Load(const void* data, int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + index * sizeof(T),
              sizeof(T));
  return value;
}

}  // namespace

int64_t DTypeSize(DType dtype) { return Row(dtype).size; }
const char* DTypeName(DType dtype) { return Row(dtype).name; }
bool IsFloat(DType dtype) { return Row(dtype).is_float; }
bool IsInteger(DType dtype) { return Row(dtype).is_integer; }

std::optional<DType> DTypeFromName(std::string_view name) {
  for (const DTypeRow& row : kDTypes) {
    if (name == row.name) return row.dtype;
  }
  return std::nullopt;
}

float HalfToFloat(uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const int mantissa = bits & 0x3ff;
  float value;
  if (exponent == 0x1f) {
    value = mantissa ? std::numeric_limits<float>::quiet_NaN()
                     : std::numeric_limits<float>::infinity();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(mantissa), -24);
  } else {
    value = std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  }
  return bits & 0x8000 ? -value : value;
}

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7e00u;
  // 65520 is the midpoint above the largest half; it and all above round to
  // infinity.
  if (magnitude >= 65520.0f) return sign | 0x7c00u;
  if (magnitude < 0x1p-14f) {
    // Subnormal: a multiple of 2^-24. nearbyint rounds to nearest even.
    return sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f));
  }
  const uint32_t magnitude_bits = bits & 0x7fffffffu;
  const uint32_t rounded =
      magnitude_bits + 0xfffu + ((magnitude_bits >> 13) & 1u);
  return sign | static_cast<uint16_t>((rounded - (112u << 23)) >> 13);
}

float LoadAsFloat(DType dtype, const void* data, int64_t index) {
  switch (dtype) {
    case DType::kF32:
      return Load<float>(data, index);
    case DType::kBF16:
      return ToFloat(Load<BFloat16>(data, index));
    case DType::kF16:
      return HalfToFloat(Load<uint16_t>(data, index));
    case DType::kF8E4M3:
      return ToFloat(Load<Float8>(data, index));
    case DType::kF8E8M0:
      return ToFloat(Load<PowerOfTwo>(data, index));
    default:
      Fail(ErrorKind::kInternal, "dtype {} has no float value",
           DTypeName(dtype));
  }
}

void LoadAsFloats(DType dtype, const void* data, int64_t count, float* out) {
  if (dtype == DType::kF32) {
    if (count > 0) std::memcpy(out, data, count * sizeof(float));
  } else if (dtype == DType::kBF16) {
    for (int64_t i = 0; i < count; ++i) {
      out[i] = ToFloat(Load<BFloat16>(data, i));
    }
  } else if (dtype == DType::kF8E4M3) {
    for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(Load<Float8>(data, i));
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = LoadAsFloat(dtype, data, i);
  }
}

void StoreFloats(const float* values, int64_t count, DType dtype, void* out) {
  auto* bytes = static_cast<char*>(out);
  for (int64_t i = 0; i < count; ++i) {
    if (dtype == DType::kF32) {
      std::memcpy(bytes + i * 4, &values[i], 4);
    } else if (dtype == DType::kBF16) {
      const BFloat16 value = ToBFloat16(values[i]);
      std::memcpy(bytes + i * 2, &value, 2);
    } else if (dtype == DType::kF16) {
      const uint16_t value = FloatToHalf(values[i]);
      std::memcpy(bytes + i * 2, &value, 2);
    } else {
      Fail(ErrorKind::kInternal, "cannot store floats as {}", DTypeName(dtype));
    }
  }
}

}  // namespace mobe
