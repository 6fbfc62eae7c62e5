// 4 bits, a scale for 32 inputs: 4.5 bits a weight. A byte holds the codes of
// two quads, the first in its low half: one load, and two masks, give both.
#include "tensor/format.h"
#include "tensor/packed.h"

namespace mobe {
namespace {

// The middle of four bits is 8.
constexpr uint8_t kShift = kCodeMiddle - 8;

void Pack(const uint8_t* codes, uint8_t* packed) {
  for (int64_t i = 0; i < kQuadBytes; ++i) {
    const auto low = static_cast<uint8_t>(codes[i] - kShift);
    const auto high = static_cast<uint8_t>(codes[kQuadBytes + i] - kShift);
    packed[i] = static_cast<uint8_t>(low | high << 4);
  }
}

void Unpack(const uint8_t* packed, uint8_t* codes) {
  for (int64_t i = 0; i < kQuadBytes; ++i) {
    codes[i] = static_cast<uint8_t>((packed[i] & 0x0f) + kShift);
    codes[kQuadBytes + i] = static_cast<uint8_t>((packed[i] >> 4) + kShift);
  }
}

}  // namespace

const FormatRow kInt4Format = {
    NumberFormat::kInt4, "int4", 4, DType::kU8, 32, 2, Pack, Unpack};

}  // namespace mobe
