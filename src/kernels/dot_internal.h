// What dot.cc collects its sets from; nobody else includes this.
#pragma once

#include <cstdint>

#include "kernels/dot.h"
#include "tensor/bit_planes.h"

namespace mobe {

void MultiplyScalar(const WeightView& w, const RoundedInputs& x, int64_t first,
                    int64_t tokens, float* y, int64_t y_stride);
#if defined(__x86_64__)
void MultiplyAvx2(const WeightView& w, const RoundedInputs& x, int64_t first,
                  int64_t tokens, float* y, int64_t y_stride);
void MultiplyAvxVnni(const WeightView& w, const RoundedInputs& x, int64_t first,
                     int64_t tokens, float* y, int64_t y_stride);
void MultiplyAvx512Vnni(const WeightView& w, const RoundedInputs& x,
                        int64_t first, int64_t tokens, float* y,
                        int64_t y_stride);
void MultiplyAmx(const WeightView& w, const RoundedInputs& x, int64_t first,
                 int64_t tokens, float* y, int64_t y_stride);
#elif defined(__aarch64__)
void MultiplyNeonDot(const WeightView& w, const RoundedInputs& x, int64_t first,
                     int64_t tokens, float* y, int64_t y_stride);
void MultiplyNeonI8mm(const WeightView& w, const RoundedInputs& x,
                      int64_t first, int64_t tokens, float* y,
                      int64_t y_stride);
#endif

// Blocks of 16 rows that a view touches: of block b, the lanes [begin, end) are
// rows of the view from `row` on.
struct LaneRange {
  int64_t block, begin, end, row;
};
inline LaneRange FirstLanes(const WeightView& w) {
  const int64_t lane = w.first_row % kPackedRows;
  return {w.first_row / kPackedRows, lane,
          lane + w.rows < kPackedRows ? lane + w.rows : kPackedRows, 0};
}
inline LaneRange NextLanes(const WeightView& w, const LaneRange& lanes) {
  const int64_t row = lanes.row + lanes.end - lanes.begin;
  const int64_t left = w.rows - row;
  return {lanes.block + 1, 0, left < kPackedRows ? left : kPackedRows, row};
}

// Codes as kernels unpack them: how far they are shifted up, since every second
// number is odd, and what is then zero.
constexpr int UpOf(int bits) { return IsOdd(bits) ? 1 : 0; }
constexpr int MiddleOf(int bits) {
  return bits == 8 ? kCodeMiddle : LeastOf(bits);
}

// The codes of a block of 16 rows as bytes, [quads, 16, 4]: in place where the
// format has them so, else unpacked into the calling thread's memory, valid
// until its next call.
const uint8_t* BlockCodes(const WeightView& w, const PackedSizes& sizes,
                          int64_t block);
// The block's scales, [groups, 16], as BF16.
inline const uint16_t* BlockScales(const WeightView& w,
                                   const PackedSizes& sizes, int64_t block) {
  return static_cast<const uint16_t*>(w.scales) +
         block * sizes.groups * kPackedRows;
}

}  // namespace mobe
