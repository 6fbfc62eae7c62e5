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

namespace mobe {
namespace {

constexpr int kVectors = kBasesBlock / 4;
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

// s and p of 2^(factor x) = s + s p.
struct Power {
  MOBE_INLINE Power(float32x4_t x, float factor) {
    const float32x4_t rounder = vdupq_n_f32(kMixRounder);
    const float32x4_t factors = vdupq_n_f32(factor);
    const float32x4_t z = vfmaq_f32(rounder, x, factors);
    const float32x4_t n = vsubq_f32(z, rounder);
    const float32x4_t g = vfmaq_f32(vnegq_f32(n), x, factors);
    float32x4_t q = vdupq_n_f32(kMixPowers[4]);
    q = vfmaq_f32(vdupq_n_f32(kMixPowers[3]), q, g);
    q = vfmaq_f32(vdupq_n_f32(kMixPowers[2]), q, g);
    q = vfmaq_f32(vdupq_n_f32(kMixPowers[1]), q, g);
    q = vfmaq_f32(vdupq_n_f32(kMixPowers[0]), q, g);
    p = vmulq_f32(g, q);
    s = vreinterpretq_f32_s32(
        vaddq_s32(vshlq_n_s32(vreinterpretq_s32_f32(z), kMixMantissaBits),
                  vdupq_n_s32(kMixOneBits)));
  }
  float32x4_t p, s;
};

// NaN stays: minimum and maximum pass it on.
MOBE_INLINE float32x4_t ClampTo(float32x4_t x, float most) {
  return vminq_f32(vdupq_n_f32(most), vmaxq_f32(vdupq_n_f32(-most), x));
}

template <Activation kF>
MOBE_INLINE float32x4_t Activate(float32x4_t x) {
  const float32x4_t one = vdupq_n_f32(1);
  if constexpr (kF == Activation::kSilu) {
    const Power power(ClampTo(x, kMixMostSilu), -kMixLog2E);
    return vdivq_f32(x, vfmaq_f32(vaddq_f32(power.s, one), power.p, power.s));
  }
  if constexpr (kF == Activation::kTanh) {
    const Power power(ClampTo(x, kMixMostTanh), 2 * kMixLog2E);
    const float32x4_t w = vfmaq_f32(vsubq_f32(power.s, one), power.p, power.s);
    return vdivq_f32(w, vaddq_f32(w, vdupq_n_f32(2)));
  }
  return x;
}

template <Activation kF, int kB>
MOBE_INLINE void MixTile(const uint8_t* codes, int64_t quads,
                         const RoundedAlphas& alphas, const int32_t* used_quads,
                         int64_t used, float* n) {
  int32x4_t high[kB][kVectors];
  int32x4_t low[kB][kVectors];
  for (int b = 0; b < kB; ++b) {
    for (int v = 0; v < kVectors; ++v) {
      high[b][v] = vdupq_n_s32(0);
      low[b][v] = StartQuads(alphas.middle);
    }
  }
  const int64_t stride = quads * kQuadBytes;
  for (int64_t u = 0; u < used; ++u) {
    const int64_t q = used_quads[u];
    const int8x8_t words = vreinterpret_s8_s32(vld1_s32(alphas.words + 2 * q));
    const uint8_t* quad = codes + q * kQuadBytes;
    for (int b = 0; b < kB; ++b) {
      for (int v = 0; v < kVectors; ++v) {
        const uint8x16_t code = vld1q_u8(quad + b * stride + v * 16);
        high[b][v] = AddQuad<0>(high[b][v], code, words);
        low[b][v] = AddQuad<1>(low[b][v], code, words);
      }
    }
  }
  for (int b = 0; b < kB; ++b) {
    for (int v = 0; v < kVectors; ++v) {
      const float32x4_t sum =
          vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(high[b][v], 7), low[b][v]));
      vst1q_f32(n + b * kBasesBlock + v * 4,
                Activate<kF>(vmulq_n_f32(sum, alphas.scale)));
    }
  }
}

template <Activation kF>
MOBE_TARGET void MixWith(const uint8_t* codes, int64_t quads,
                         const RoundedAlphas& alphas, const int32_t* used_quads,
                         int64_t used, int64_t blocks, float* n) {
  const int64_t bytes = quads * kQuadBytes;
  int64_t b = 0;
  for (; b + kBlocks <= blocks; b += kBlocks) {
    MixTile<kF, kBlocks>(codes + b * bytes, quads, alphas, used_quads, used,
                         n + b * kBasesBlock);
  }
  for (; b < blocks; ++b) {
    MixTile<kF, 1>(codes + b * bytes, quads, alphas, used_quads, used,
                   n + b * kBasesBlock);
  }
}

void Mix(const void* codes, int64_t quads, const RoundedAlphas& alphas,
         const int32_t* used_quads, int64_t used, int64_t blocks, Activation f,
         float* n) {
  const auto mix = f == Activation::kSilu   ? MixWith<Activation::kSilu>
                   : f == Activation::kTanh ? MixWith<Activation::kTanh>
                                            : MixWith<Activation::kIdentity>;
  mix(static_cast<const uint8_t*>(codes), quads, alphas, used_quads, used,
      blocks, n);
}

MOBE_TARGET void Multiply(const float* n, const float* x, int64_t count,
                          float* sums) {
  constexpr int kParts = kMixLanes / 4;
  float32x4_t parts[kParts];
  for (int k = 0; k < kParts; ++k) parts[k] = vld1q_f32(sums + 4 * k);
  int64_t c = 0;
  for (; c + kMixLanes <= count; c += kMixLanes) {
    for (int k = 0; k < kParts; ++k) {
      parts[k] = vfmaq_f32(parts[k], vld1q_f32(n + c + 4 * k),
                           vld1q_f32(x + c + 4 * k));
    }
  }
  for (int k = 0; k < kParts; ++k) vst1q_f32(sums + 4 * k, parts[k]);
  for (int64_t lane = 0; c < count; ++c, ++lane) {
    sums[lane] = __builtin_fmaf(n[c], x[c], sums[lane]);
  }
}

}  // namespace

const PackedMixSet MOBE_MIX = {
    MOBE_MIX_NAME, kPreparedBytes, Prepare, RoundAlphas, Mix, Multiply};

}  // namespace mobe
