// Packed matrices: integer codes with a scale for each group of inputs,
//
//   w[r, c] = scale[r, c / group] (code[r, c] - kCodeMiddle),
//
// interleaved so that a vector of integer products is four adjacent inputs of
// 16 rows, which is what VNNI, AMX and NEON's dot products take:
//
//   codes   U8    [rows / 16, cols / 4, 16, 4] where a code has 8 bits; where
//   it
//                 has fewer, `FormatRow::quads` quads are put together
//                 (tensor/bit_planes.h), and the rest is the same
//   scales  BF16  [rows / 16, cols / group, 16]
//
// All divisions round up. What lies beyond the matrix has the code of zero, or
// of one where there are odd numbers alone, and rows there the scale 0. BF16,
// since F16 does not hold all scales that bases can have.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/weight_view.h"

namespace mobe {

inline constexpr int64_t kPackedRows = 16;
inline constexpr int64_t kQuad = 4;
inline constexpr int64_t kQuadBytes = kPackedRows * kQuad;
inline constexpr uint8_t kCodeMiddle = 128;

// Sizes of the planes of a matrix of so many columns, for 16 rows.
struct PackedSizes {
  int64_t quads = 0;  // with those that complete the last ones
  int64_t groups = 0;
  int64_t code_bytes = 0;
  int64_t scale_bytes() const { return groups * kPackedRows * 2; }
};
PackedSizes PackedSizesOf(const FormatRow& format, int64_t cols);

inline int64_t RowBlocks(int64_t rows) {
  return (rows + kPackedRows - 1) / kPackedRows;
}

// The shapes of the planes, as tensors: [row blocks, bytes], [row blocks,
// groups, 16]. Fails with kUnsupported where they overflow.
std::vector<int64_t> CodesShape(const FormatRow& format, int64_t rows,
                                int64_t cols);
std::vector<int64_t> ScalesShape(const FormatRow& format, int64_t rows,
                                 int64_t cols);

// out [w.rows, count] = the columns [first, first + count) of a packed matrix.
// The specification of what the codes mean.
void DecodePacked(const WeightView& w, int64_t first, int64_t count,
                  float* out);

// What the codes of a packed format stand for, before the scale.
class CodeGrid {
 public:
  explicit CodeGrid(const FormatRow& format)
      : least_(static_cast<float>(format.least())),
        most_(static_cast<float>(format.most())) {
    if (!IsOdd(format.bits)) return;
    // Odd numbers are the integers and a half, twice.
    narrow_ = 0.5f;
    widen_ = 2.0f;
    shift_ = 0.5f;
  }

  // Ties to even. Of a finite number.
  float Nearest(float number) const {
    // Added and subtracted, it rounds small floats to integers.
    constexpr float kRounder = 0x1.8p23f;
    const float clamped = std::min(std::max(number, least_), most_);
    return (clamped * narrow_ - shift_ + kRounder - kRounder + shift_) * widen_;
  }

 private:
  float least_, most_;
  float narrow_ = 1;
  float widen_ = 1;
  float shift_ = 0;
};

// A group of one row: the numbers that its codes stand for, before the scale.
inline constexpr int64_t kMostGroup = 64;
struct RoundedGroup {
  BFloat16 scale{};
  float codes[kMostGroup] = {};
};
// The codes and the scale of the least sum of importance[c] (w[c] - what is
// stored)^2 among some scales that are tried; without importance, all columns
// count alike. In 8 bits the scale is that of the largest number. Of up to
// format.group numbers, which must be finite.
RoundedGroup EncodeGroup(const FormatRow& format, const float* w, int64_t count,
                         const float* importance);
// Writes the codes of up to 16 rows, rounded [rows, cols], to their part of the
// plane.
void PackRows(const FormatRow& format, const int8_t* rounded, int64_t rows,
              int64_t cols, std::byte* codes);

// Rounds up to 16 rows w [rows, cols] to the format and writes their part of
// the planes, each group by EncodeGroup.
void EncodePacked(const FormatRow& format, const float* w, int64_t rows,
                  int64_t cols, const float* importance, std::byte* codes,
                  std::byte* scales);

}  // namespace mobe
