// 2 to 6 bits, a scale for 32 inputs: half a bit more for each weight. Of 2 and
// 3 bits the codes stand for odd numbers: a level at zero would leave one side
// a level short, and the mean square error of normal numbers is then a third
// larger (at 2 bits; a sixth at 3).
#include <cstring>

#include "tensor/bit_planes.h"
#include "tensor/format.h"
#include "tensor/packed.h"

namespace mobe {
namespace {

// Codes of a byte each are packed as what they are above the least of their
// format, halved where only every second is in use.
template <int kBits>
void Pack(const uint8_t* codes, uint8_t* packed) {
  constexpr BitPlanes planes = BitPlanesOf(kBits);
  constexpr int least = kCodeMiddle - LeastOf(kBits);
  std::memset(packed, 0, planes.quads() * kQuadBytes * kBits / 8);
  for (int q = 0; q < planes.quads(); ++q) {
    const PlaneBits low = LowBits(planes, q);
    for (int64_t i = 0; i < kQuadBytes; ++i) {
      const int code =
          (codes[q * kQuadBytes + i] - least) >> (IsOdd(kBits) ? 1 : 0);
      packed[low.line * kQuadBytes + i] |=
          static_cast<uint8_t>((code & ((1 << planes.low) - 1)) << low.shift);
      if constexpr (planes.high > 0) {
        const PlaneBits high = HighBits(planes, q);
        packed[high.line * kQuadBytes + i] |=
            static_cast<uint8_t>(code >> planes.low << high.shift);
      }
    }
  }
}

template <int kBits>
void Unpack(const uint8_t* packed, uint8_t* codes) {
  constexpr BitPlanes planes = BitPlanesOf(kBits);
  constexpr int least = kCodeMiddle - LeastOf(kBits);
  for (int q = 0; q < planes.quads(); ++q) {
    const PlaneBits low = LowBits(planes, q);
    const uint8_t* from = packed + low.line * kQuadBytes;
    uint8_t* to = codes + q * kQuadBytes;
    for (int64_t i = 0; i < kQuadBytes; ++i) {
      to[i] = (from[i] >> low.shift) & ((1 << planes.low) - 1);
    }
    if constexpr (planes.high > 0) {
      const PlaneBits high = HighBits(planes, q);
      from = packed + high.line * kQuadBytes;
      for (int64_t i = 0; i < kQuadBytes; ++i) {
        const int bits = (from[i] >> high.shift) & ((1 << planes.high) - 1);
        to[i] = static_cast<uint8_t>(to[i] | bits << planes.low);
      }
    }
    for (int64_t i = 0; i < kQuadBytes; ++i) {
      to[i] = static_cast<uint8_t>((to[i] << (IsOdd(kBits) ? 1 : 0)) + least);
    }
  }
}

template <NumberFormat kFormat, int kBits>
constexpr FormatRow RowOfBits(const char* name) {
  return {.format = kFormat,
          .name = name,
          .bits = kBits,
          .codes = DType::kU8,
          .group = 32,
          .quads = BitPlanesOf(kBits).quads(),
          .pack = Pack<kBits>,
          .unpack = Unpack<kBits>};
}

}  // namespace

const FormatRow kInt2Format = RowOfBits<NumberFormat::kInt2, 2>("int2");
const FormatRow kInt3Format = RowOfBits<NumberFormat::kInt3, 3>("int3");
const FormatRow kInt4Format = RowOfBits<NumberFormat::kInt4, 4>("int4");
const FormatRow kInt5Format = RowOfBits<NumberFormat::kInt5, 5>("int5");
const FormatRow kInt6Format = RowOfBits<NumberFormat::kInt6, 6>("int6");

}  // namespace mobe
