// Products by vectors of four rows, for the sets that differ in one step: a
// file that includes this defines MOBE_TARGET, MOBE_INLINE, MOBE_MULTIPLY (the
// function's name) and, in an unnamed namespace,
//
//   int32x4_t StartQuads(int32_t middle)
//       where a group's sums with low halves start; with high ones at zero
//   int32x4_t AddQuad(int32x4_t sums, uint8x16_t codes, int8x16_t inputs)
//       sums += codes, less their middle, times a quad of inputs
//
// No include guard: each file compiles it for its own instructions.
#include <arm_neon.h>

#include "kernels/dot_internal.h"

namespace mobe {
namespace {

constexpr int kVectors = kPackedRows / 4;

// kT tokens by the 16 rows of a block.
template <int kT>
MOBE_INLINE void MultiplyTile(const uint8_t* codes, const uint16_t* scales,
                              const PackedSizes& sizes, int64_t group_quads,
                              const RoundedInputs& x, int64_t token,
                              const LaneRange& lanes, float* y,
                              int64_t y_stride) {
  const int64_t stride = x.to_low();
  const int8_t* in = x.high(token);
  float32x4_t sums[kT][kVectors];
  for (auto& of_token : sums) {
    for (float32x4_t& sum : of_token) sum = vdupq_n_f32(0);
  }
  for (int64_t g = 0; g < sizes.groups; ++g) {
    const int64_t first = g * group_quads;
    const int64_t left = sizes.quads - first;
    const int64_t end = first + (left < group_quads ? left : group_quads);
    int32x4_t products[2 * kT][kVectors];  // of high and low halves
    for (int t = 0; t < kT; ++t) {
      for (int v = 0; v < kVectors; ++v) {
        products[2 * t][v] = vdupq_n_s32(0);
        products[2 * t + 1][v] =
            StartQuads(x.middle[(token + t) * x.groups + g]);
      }
    }
    for (int64_t q = first; q < end; ++q) {
      uint8x16_t weights[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        weights[v] = vld1q_u8(codes + q * kQuadBytes + v * 16);
      }
      for (int t = 0; t < 2 * kT; ++t) {
        int32_t quad = 0;
        __builtin_memcpy(&quad, in + t * stride + q * kQuad, sizeof(quad));
        const int8x16_t inputs = vreinterpretq_s8_s32(vdupq_n_s32(quad));
        for (int v = 0; v < kVectors; ++v) {
          products[t][v] = AddQuad(products[t][v], weights[v], inputs);
        }
      }
    }
    for (int v = 0; v < kVectors; ++v) {
      const float32x4_t row_scale = vreinterpretq_f32_u32(
          vshll_n_u16(vld1_u16(scales + g * kPackedRows + v * 4), 16));
      for (int t = 0; t < kT; ++t) {
        const float32x4_t scale =
            vmulq_n_f32(row_scale, x.scales[(token + t) * x.groups + g]);
        const int32x4_t total = vaddq_s32(vshlq_n_s32(products[2 * t][v], 7),
                                          products[2 * t + 1][v]);
        sums[t][v] = vfmaq_f32(sums[t][v], scale, vcvtq_f32_s32(total));
      }
    }
  }
  for (int t = 0; t < kT; ++t) {
    float all[kPackedRows];
    for (int v = 0; v < kVectors; ++v) vst1q_f32(all + v * 4, sums[t][v]);
    __builtin_memcpy(y + t * y_stride + lanes.row, all + lanes.begin,
                     static_cast<size_t>(lanes.end - lanes.begin) * 4);
  }
}

}  // namespace

MOBE_TARGET void MOBE_MULTIPLY(const WeightView& w, const RoundedInputs& x,
                               int64_t first, int64_t tokens, float* y,
                               int64_t y_stride) {
  constexpr int kTokens = 2;
  const FormatRow& format = RowOf(w.format);
  const PackedSizes sizes = PackedSizesOf(format, w.cols);
  const int64_t group_quads = format.group / kQuad;
  for (LaneRange lanes = FirstLanes(w); lanes.row < w.rows;
       lanes = NextLanes(w, lanes)) {
    const uint8_t* codes = BlockCodes(w, sizes, lanes.block);
    const uint16_t* scales = BlockScales(w, sizes, lanes.block);
    int64_t t = 0;
    for (; t + kTokens <= tokens; t += kTokens) {
      MultiplyTile<kTokens>(codes, scales, sizes, group_quads, x, first + t,
                            lanes, y + t * y_stride, y_stride);
    }
    for (; t < tokens; ++t) {
      MultiplyTile<1>(codes, scales, sizes, group_quads, x, first + t, lanes,
                      y + t * y_stride, y_stride);
    }
  }
}

}  // namespace mobe
