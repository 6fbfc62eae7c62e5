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
#define MOBE_MIX kAvx512VnniPackedMix
#define MOBE_MIX_NAME "avx512vnni"

namespace mobe {
namespace {

using Floats = __m512;

constexpr int kBlocks = 4;
// Codes are read in place.
constexpr int64_t kPreparedBytes = 0;
// NOLINTNEXTLINE(readability-identifier-naming): others define a function
constexpr decltype(PackedMixSet::prepare) Prepare = nullptr;

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

MOBE_INLINE Floats Load(const float* from) { return _mm512_loadu_ps(from); }
MOBE_INLINE void Store(Floats x, float* to) { _mm512_storeu_ps(to, x); }
MOBE_INLINE Floats Spread(float x) { return _mm512_set1_ps(x); }
MOBE_INLINE Floats MulAdd(Floats a, Floats b, Floats c) {
  return _mm512_fmadd_ps(a, b, c);
}
// Of minimum and maximum the second operand is the result where one is NaN.
MOBE_INLINE Floats ClampTo(Floats x, float most) {
  return _mm512_min_ps(Spread(most), _mm512_max_ps(Spread(-most), x));
}
MOBE_INLINE Floats PowerOf(Floats z) {
  const __m512i shifted =
      _mm512_slli_epi32(_mm512_castps_si512(z), kMixMantissaBits);
  return _mm512_castsi512_ps(
      _mm512_add_epi32(shifted, _mm512_set1_epi32(kMixOneBits)));
}

template <int kB>
MOBE_INLINE void SumTile(const uint8_t* codes, int64_t stride,
                         const RoundedAlphas& alphas, const int32_t* used_quads,
                         int64_t used, Floats (*sums)[1]) {
  __m512i high[kB];
  __m512i low[kB];
  for (int b = 0; b < kB; ++b) {
    high[b] = _mm512_setzero_si512();
    low[b] = _mm512_set1_epi32(alphas.middle);
  }
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
  for (int b = 0; b < kB; ++b) {
    sums[b][0] = _mm512_cvtepi32_ps(
        _mm512_add_epi32(_mm512_slli_epi32(high[b], 7), low[b]));
  }
}

}  // namespace
}  // namespace mobe

#include "kernels/packed_mix-inl.h"

#endif  // __x86_64__
