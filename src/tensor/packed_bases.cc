#include "tensor/packed_bases.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace mobe {
namespace {

constexpr float kMostCode = 127;
// Of a group's largest number: below, its scale would be no normal number, and
// the group is stored as zeros.
constexpr float kLeastGroup = 0x1p-110f;

// Where the code of a column and basis lies in its row.
int64_t CodeAt(const PackedBases& bases, int64_t col, int64_t i) {
  return col / kBasesBlock * bases.block_bytes() +
         (i / kQuad * kBasesBlock + col % kBasesBlock) * kQuad + i % kQuad;
}

// Of numbers whose largest is that. Numbers are divided by the scale as it is
// stored: that this has 8 bits costs no more than a clamped largest number.
BFloat16 GroupScale(float largest) {
  return ToBFloat16(largest < kLeastGroup ? 0.0f : largest / kMostCode);
}

}  // namespace

std::vector<int64_t> BasesCodesShape(const PackedBases& bases) {
  return {bases.rank, bases.blocks(), bases.block_bytes()};
}

std::vector<int64_t> BasesScalesShape(const PackedBases& bases) {
  return {bases.rank, bases.groups(), bases.num_bases};
}

void DecodeBases(const PackedBases& bases, int64_t i, int64_t row,
                 int64_t first, int64_t count, float* out) {
  const uint8_t* codes = bases.Codes(row, 0);
  for (int64_t j = 0; j < count; ++j) {
    const int64_t col = first + j;
    BFloat16 scale{};
    std::memcpy(&scale, bases.Scales(row, col / kBasesGroup) + 2 * i, 2);
    out[j] = ToFloat(scale) *
             static_cast<float>(codes[CodeAt(bases, col, i)] - kCodeMiddle);
  }
}

void EncodeBasesRow(const PackedBases& sizes, const float* w, std::byte* codes,
                    std::byte* scales) {
  std::memset(codes, kCodeMiddle, static_cast<size_t>(sizes.row_bytes()));
  for (int64_t i = 0; i < sizes.num_bases; ++i) {
    const float* row = w + i * sizes.cols;
    for (int64_t first = 0; first < sizes.cols; first += kBasesGroup) {
      const int64_t last = std::min(first + kBasesGroup, sizes.cols);
      float largest = 0;
      for (int64_t c = first; c < last; ++c) {
        largest = std::max(largest, std::abs(row[c]));
      }
      const BFloat16 scale = GroupScale(largest);
      std::memcpy(
          scales + first / kBasesGroup * sizes.group_scale_bytes() + 2 * i,
          &scale, 2);
      const float step = ToFloat(scale);
      if (step == 0) continue;
      for (int64_t c = first; c < last; ++c) {
        const float code =
            std::clamp(std::nearbyint(row[c] / step), -kMostCode, kMostCode);
        codes[CodeAt(sizes, c, i)] =
            static_cast<std::byte>(kCodeMiddle + static_cast<int>(code));
      }
    }
  }
}

}  // namespace mobe
