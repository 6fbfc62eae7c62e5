// Mixes by vectors of four columns, for the sets that differ in one step: a
// file that includes this defines MOBE_TARGET, MOBE_INLINE, MOBE_MIX (the set
// in packed_mix_internal.h), MOBE_MIX_NAME and, in an unnamed namespace,
//
//   int64_t kPreparedBytes, Prepare
//       as in PackedMixSet
//   int32x4_t StartQuads(int32_t middle)
//       where sums with low alphas start; with high ones at zero
//   int32x4_t AddQuad<kLane>(int32x4_t sums, uint8x16_t codes, int8x8_t alphas)
//       sums += the prepared codes of a quad of bases at four columns times
//       word kLane of alphas
//
// No include guard: each file compiles it for its own instructions.
#include <arm_neon.h>

#include "kernels/packed_mix_internal.h"

// NOLINTBEGIN(google-build-namespaces,misc-definitions-in-headers): as above

namespace mobe {
namespace {

using Floats = float32x4_t;

// Blocks of columns side by side: 16 sums and 4 vectors of codes leave room
// among 32 registers.
constexpr int kBlocks = 2;

MOBE_INLINE float32x4_t Products(const float* alpha, const float* scales) {
  const float32x4_t a = vld1q_f32(alpha);
  const uint32x4_t none = vceqzq_f32(a);
  const float32x4_t product = vmulq_f32(a, vld1q_f32(scales));
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(product), none));
}

// Words of four high and four low bytes for each quad.
MOBE_TARGET void RoundAlphas(const float* alpha, const float* scales,
                             int64_t count, RoundedAlphas* rounded) {
  const uint32x4_t magnitude = vdupq_n_u32(0x7fffffff);
  uint32x4_t largest = vdupq_n_u32(0);
  for (int64_t i = 0; i < count; i += kQuad) {
    const uint32x4_t bits =
        vreinterpretq_u32_f32(Products(alpha + i, scales + i));
    largest = vmaxq_u32(largest, vandq_u32(bits, magnitude));
  }
  const float factor = SetAlphaScale(vmaxvq_u32(largest), rounded);
  // Of numbers that are not finite times zero the conversion may make no zero.
  const int32x4_t keep = vdupq_n_s32(factor == 0 ? 0 : -1);
  int32x4_t sum = vdupq_n_s32(0);
  for (int64_t i = 0; i < count; i += kQuad) {
    const int32x4_t value = vandq_s32(
        keep,
        vcvtnq_s32_f32(vmulq_n_f32(Products(alpha + i, scales + i), factor)));
    sum = vaddq_s32(sum, value);
    const int32x4_t high = vrshrq_n_s32(value, 7);
    const int32x4_t low = vsubq_s32(value, vshlq_n_s32(high, 7));
    const int16x8_t both = vcombine_s16(vmovn_s32(high), vmovn_s32(low));
    vst1_s32(rounded->words + i / kQuad * 2,
             vreinterpret_s32_s8(vmovn_s16(both)));
  }
  rounded->middle = -kCodeMiddle * vaddvq_s32(sum);
}

MOBE_INLINE Floats Load(const float* from) { return vld1q_f32(from); }
MOBE_INLINE void Store(Floats x, float* to) { vst1q_f32(to, x); }
MOBE_INLINE Floats Spread(float x) { return vdupq_n_f32(x); }
MOBE_INLINE Floats MulAdd(Floats a, Floats b, Floats c) {
  return vfmaq_f32(c, a, b);
}
// Minimum and maximum pass NaN on.
MOBE_INLINE Floats ClampTo(Floats x, float most) {
  return vminq_f32(Spread(most), vmaxq_f32(Spread(-most), x));
}
MOBE_INLINE Floats PowerOf(Floats z) {
  const int32x4_t shifted =
      vshlq_n_s32(vreinterpretq_s32_f32(z), kMixMantissaBits);
  return vreinterpretq_f32_s32(vaddq_s32(shifted, vdupq_n_s32(kMixOneBits)));
}

template <int kB>
MOBE_INLINE void SumTile(const uint8_t* codes, int64_t stride,
                         const RoundedAlphas& alphas, const int32_t* used_quads,
                         int64_t used, Floats (*sums)[4]) {
  int32x4_t high[kB][4];
  int32x4_t low[kB][4];
  for (int b = 0; b < kB; ++b) {
    for (int v = 0; v < 4; ++v) {
      high[b][v] = vdupq_n_s32(0);
      low[b][v] = StartQuads(alphas.middle);
    }
  }
  for (int64_t u = 0; u < used; ++u) {
    const int64_t q = used_quads[u];
    const int8x8_t words = vreinterpret_s8_s32(vld1_s32(alphas.words + 2 * q));
    const uint8_t* quad = codes + q * kQuadBytes;
    for (int b = 0; b < kB; ++b) {
      for (int v = 0; v < 4; ++v) {
        const uint8x16_t code = vld1q_u8(quad + b * stride + v * 16);
        high[b][v] = AddQuad<0>(high[b][v], code, words);
        low[b][v] = AddQuad<1>(low[b][v], code, words);
      }
    }
  }
  for (int b = 0; b < kB; ++b) {
    for (int v = 0; v < 4; ++v) {
      sums[b][v] =
          vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(high[b][v], 7), low[b][v]));
    }
  }
}

}  // namespace
}  // namespace mobe

// NOLINTEND(google-build-namespaces,misc-definitions-in-headers)

#include "kernels/packed_mix-inl.h"
