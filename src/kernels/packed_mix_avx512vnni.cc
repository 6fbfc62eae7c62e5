// AVX-512 with VNNI: vpdpbusd multiplies the unsigned codes of a quad of bases
// at 16 columns by a quad of signed alphas, once by their high bytes and once
// by their low ones. Four blocks of columns side by side share the alphas that
// are broadcast, and hide the latency of sums and activation.
//
// Tiles of AMX, where these codes meet the alphas of eight experts, were no
// faster with 32 bases: their instructions slow the activations beside them.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/packed_mix_internal.h"

#define MOBE_TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define MOBE_INLINE \
  __attribute__((target("avx512f,avx512bw,avx512vnni"), always_inline)) inline

namespace mobe {
namespace {

constexpr int kBlocks = 4;

MOBE_INLINE __m512 Products(const float* alpha, const float* scales) {
  const __m512 a = _mm512_loadu_ps(alpha);
  const __mmask16 some =
      _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_UQ);
  return _mm512_maskz_mul_ps(some, a, _mm512_loadu_ps(scales));
}

// Words of four high and four low bytes for each quad.
MOBE_TARGET void RoundAlphas(const float* alpha, const float* scales,
                             int64_t count, RoundedAlphas* rounded) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i largest = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += 16) {
    const __m512i bits = _mm512_castps_si512(Products(alpha + i, scales + i));
    largest = _mm512_max_epi32(largest, _mm512_and_si512(bits, magnitude));
  }
  const float factor = SetAlphaScale(
      static_cast<uint32_t>(_mm512_reduce_max_epi32(largest)), rounded);
  // Of numbers that are not finite times zero the conversion makes no zero.
  const __mmask16 keep = factor == 0 ? 0 : 0xffff;
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += 16) {
    const __m512 product = Products(alpha + i, scales + i);
    const __m512i value = _mm512_maskz_cvtps_epi32(
        keep, _mm512_mul_ps(product, _mm512_set1_ps(factor)));
    sum = _mm512_add_epi32(sum, value);
    const __m512i high =
        _mm512_srai_epi32(_mm512_add_epi32(value, _mm512_set1_epi32(64)), 7);
    const __m512i low = _mm512_sub_epi32(value, _mm512_slli_epi32(high, 7));
    const __m128i high_bytes = _mm512_cvtepi32_epi8(high);
    const __m128i low_bytes = _mm512_cvtepi32_epi8(low);
    auto* to = reinterpret_cast<__m128i*>(rounded->words + i / kQuad * 2);
    _mm_storeu_si128(to, _mm_unpacklo_epi32(high_bytes, low_bytes));
    _mm_storeu_si128(to + 1, _mm_unpackhi_epi32(high_bytes, low_bytes));
  }
  rounded->middle = -kCodeMiddle * _mm512_reduce_add_epi32(sum);
}

// s and p of 2^(factor x) = s + s p.
struct Power {
  MOBE_INLINE Power(__m512 x, float factor) {
    const __m512 rounder = _mm512_set1_ps(kMixRounder);
    const __m512 factors = _mm512_set1_ps(factor);
    const __m512 z = _mm512_fmadd_ps(x, factors, rounder);
    const __m512 n = _mm512_sub_ps(z, rounder);
    const __m512 g = _mm512_fmsub_ps(x, factors, n);
    __m512 q = _mm512_set1_ps(kMixPowers[4]);
    q = _mm512_fmadd_ps(q, g, _mm512_set1_ps(kMixPowers[3]));
    q = _mm512_fmadd_ps(q, g, _mm512_set1_ps(kMixPowers[2]));
    q = _mm512_fmadd_ps(q, g, _mm512_set1_ps(kMixPowers[1]));
    q = _mm512_fmadd_ps(q, g, _mm512_set1_ps(kMixPowers[0]));
    p = _mm512_mul_ps(g, q);
    s = _mm512_castsi512_ps(_mm512_add_epi32(
        _mm512_slli_epi32(_mm512_castps_si512(z), kMixMantissaBits),
        _mm512_set1_epi32(kMixOneBits)));
  }
  __m512 p, s;
};

// Of minimum and maximum the second operand is the result where one is NaN.
MOBE_INLINE __m512 ClampTo(__m512 x, float most) {
  const __m512 above = _mm512_max_ps(_mm512_set1_ps(-most), x);
  return _mm512_min_ps(_mm512_set1_ps(most), above);
}

template <Activation kF>
MOBE_INLINE __m512 Activate(__m512 x) {
  const __m512 one = _mm512_set1_ps(1);
  if constexpr (kF == Activation::kSilu) {
    const Power power(ClampTo(x, kMixMostSilu), -kMixLog2E);
    return _mm512_div_ps(
        x, _mm512_fmadd_ps(power.p, power.s, _mm512_add_ps(power.s, one)));
  }
  if constexpr (kF == Activation::kTanh) {
    const Power power(ClampTo(x, kMixMostTanh), 2 * kMixLog2E);
    const __m512 w =
        _mm512_fmadd_ps(power.p, power.s, _mm512_sub_ps(power.s, one));
    return _mm512_div_ps(w, _mm512_add_ps(w, _mm512_set1_ps(2)));
  }
  return x;
}

template <Activation kF, int kB>
MOBE_INLINE void MixTile(const uint8_t* codes, int64_t quads,
                         const RoundedAlphas& alphas, const int32_t* used_quads,
                         int64_t used, float* n) {
  __m512i high[kB];
  __m512i low[kB];
  for (int b = 0; b < kB; ++b) {
    high[b] = _mm512_setzero_si512();
    low[b] = _mm512_set1_epi32(alphas.middle);
  }
  const int64_t stride = quads * kQuadBytes;
  for (int64_t u = 0; u < used; ++u) {
    const int64_t q = used_quads[u];
    const __m512i high_alphas = _mm512_set1_epi32(alphas.words[2 * q]);
    const __m512i low_alphas = _mm512_set1_epi32(alphas.words[2 * q + 1]);
    const uint8_t* quad = codes + q * kQuadBytes;
    for (int b = 0; b < kB; ++b) {
      const __m512i code = _mm512_loadu_si512(quad + b * stride);
      high[b] = _mm512_dpbusd_epi32(high[b], code, high_alphas);
      low[b] = _mm512_dpbusd_epi32(low[b], code, low_alphas);
    }
  }
  const __m512 scale = _mm512_set1_ps(alphas.scale);
  for (int b = 0; b < kB; ++b) {
    const __m512 sum = _mm512_cvtepi32_ps(
        _mm512_add_epi32(_mm512_slli_epi32(high[b], 7), low[b]));
    _mm512_storeu_ps(n + b * kBasesBlock,
                     Activate<kF>(_mm512_mul_ps(scale, sum)));
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
  constexpr int kParts = kMixLanes / 16;
  __m512 parts[kParts];
  for (int k = 0; k < kParts; ++k) parts[k] = _mm512_loadu_ps(sums + 16 * k);
  int64_t c = 0;
  for (; c + kMixLanes <= count; c += kMixLanes) {
    for (int k = 0; k < kParts; ++k) {
      parts[k] = _mm512_fmadd_ps(_mm512_loadu_ps(n + c + 16 * k),
                                 _mm512_loadu_ps(x + c + 16 * k), parts[k]);
    }
  }
  for (int k = 0; k < kParts; ++k) {
    const int64_t left = count - c - 16 * k;
    if (left > 0) {
      const auto mask =
          static_cast<__mmask16>(left >= 16 ? 0xffff : (1u << left) - 1);
      parts[k] = _mm512_mask3_fmadd_ps(
          _mm512_maskz_loadu_ps(mask, n + c + 16 * k),
          _mm512_maskz_loadu_ps(mask, x + c + 16 * k), parts[k], mask);
    }
    _mm512_storeu_ps(sums + 16 * k, parts[k]);
  }
}

}  // namespace

const PackedMixSet kAvx512VnniPackedMix = {"avx512vnni", 0,   nullptr,
                                           RoundAlphas,  Mix, Multiply};

}  // namespace mobe

#endif  // __x86_64__
