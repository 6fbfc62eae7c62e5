// AVX2: vpmaddwd multiplies codes by whole alphas, both widened to 16 bits, and
// adds pairs in 32. Codes are widened once for all experts: of the four bases
// of a quad the even and the odd ones, as they come by shifts. (Of bytes,
// vpmaddubsw would take as many instructions for each expert as both together.)
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/packed_mix_internal.h"

#define MOBE_TARGET __attribute__((target("avx2,fma")))
#define MOBE_INLINE __attribute__((target("avx2,fma"), always_inline)) inline
#define MOBE_MIX kAvx2PackedMix
#define MOBE_MIX_NAME "avx2"

namespace mobe {
namespace {

using Floats = __m256;

constexpr int kBlocks = 2;
// Of a quad: even and odd bases of each half of the columns.
constexpr int64_t kPreparedBytes = 2;

MOBE_TARGET void Prepare(const uint8_t* codes, int64_t count, void* prepared) {
  const __m256i middle = _mm256_set1_epi8(static_cast<char>(kCodeMiddle));
  auto* to = static_cast<__m256i*>(prepared);
  for (int64_t i = 0; i < count; i += 32, to += 2) {
    const __m256i code = _mm256_xor_si256(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i)),
        middle);
    _mm256_storeu_si256(to, _mm256_srai_epi16(_mm256_slli_epi16(code, 8), 8));
    _mm256_storeu_si256(to + 1, _mm256_srai_epi16(code, 8));
  }
}

MOBE_INLINE __m256 Products(const float* alpha, const float* scales) {
  const __m256 a = _mm256_loadu_ps(alpha);
  const __m256 some = _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_UQ);
  return _mm256_and_ps(some, _mm256_mul_ps(a, _mm256_loadu_ps(scales)));
}

MOBE_INLINE uint32_t LargestOf(__m256i values) {
  const __m128i half = _mm_max_epi32(_mm256_castsi256_si128(values),
                                     _mm256_extracti128_si256(values, 1));
  const __m128i two = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  return static_cast<uint32_t>(
      _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1))));
}

// Words of two alphas of 16 bits for each quad: the even ones, the odd ones.
MOBE_TARGET void RoundAlphas(const float* alpha, const float* scales,
                             int64_t count, RoundedAlphas* rounded) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i largest = _mm256_setzero_si256();
  for (int64_t i = 0; i < count; i += 8) {
    const __m256i bits = _mm256_castps_si256(Products(alpha + i, scales + i));
    largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, magnitude));
  }
  const float factor = SetAlphaScale(LargestOf(largest), rounded);
  // Of numbers that are not finite times zero the conversion makes no zero.
  const __m256i keep = _mm256_set1_epi32(factor == 0 ? 0 : -1);
  const __m256i low_half = _mm256_set1_epi32(0xffff);
  for (int64_t i = 0; i < count; i += 8) {
    const __m256 product = Products(alpha + i, scales + i);
    const __m256i value = _mm256_and_si256(
        keep,
        _mm256_cvtps_epi32(_mm256_mul_ps(product, _mm256_set1_ps(factor))));
    // Of the four values of a quad: 2 and 3 into the upper halves of 0 and 1.
    const __m256i upper =
        _mm256_slli_epi32(_mm256_shuffle_epi32(value, 0xee), 16);
    const __m256i words =
        _mm256_or_si256(_mm256_and_si256(value, low_half), upper);
    int32_t* to = rounded->words + i / kQuad * 2;
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to),
                     _mm256_castsi256_si128(words));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 2),
                     _mm256_extracti128_si256(words, 1));
  }
}

MOBE_INLINE Floats Load(const float* from) { return _mm256_loadu_ps(from); }
MOBE_INLINE void Store(Floats x, float* to) { _mm256_storeu_ps(to, x); }
MOBE_INLINE Floats Spread(float x) { return _mm256_set1_ps(x); }
MOBE_INLINE Floats MulAdd(Floats a, Floats b, Floats c) {
  return _mm256_fmadd_ps(a, b, c);
}
// Of minimum and maximum the second operand is the result where one is NaN.
MOBE_INLINE Floats ClampTo(Floats x, float most) {
  return _mm256_min_ps(Spread(most), _mm256_max_ps(Spread(-most), x));
}
MOBE_INLINE Floats PowerOf(Floats z) {
  const __m256i shifted =
      _mm256_slli_epi32(_mm256_castps_si256(z), kMixMantissaBits);
  return _mm256_castsi256_ps(
      _mm256_add_epi32(shifted, _mm256_set1_epi32(kMixOneBits)));
}

template <int kB>
MOBE_INLINE void SumTile(const uint8_t* codes, int64_t stride,
                         const RoundedAlphas& alphas, const int32_t* used_quads,
                         int64_t used, Floats (*sums)[2]) {
  __m256i totals[kB][2];
  for (auto& total : totals) total[0] = total[1] = _mm256_setzero_si256();
  for (int64_t u = 0; u < used; ++u) {
    const int64_t q = used_quads[u];
    const __m256i even = _mm256_set1_epi32(alphas.words[2 * q]);
    const __m256i odd = _mm256_set1_epi32(alphas.words[2 * q + 1]);
    const uint8_t* quad = codes + q * kPreparedBytes * kQuadBytes;
    for (int b = 0; b < kB; ++b) {
      const auto* from = reinterpret_cast<const __m256i*>(quad + b * stride);
      for (int half = 0; half < 2; ++half) {
        const __m256i evens = _mm256_loadu_si256(from++);
        const __m256i odds = _mm256_loadu_si256(from++);
        totals[b][half] = _mm256_add_epi32(
            totals[b][half], _mm256_add_epi32(_mm256_madd_epi16(evens, even),
                                              _mm256_madd_epi16(odds, odd)));
      }
    }
  }
  for (int b = 0; b < kB; ++b) {
    for (int half = 0; half < 2; ++half) {
      sums[b][half] = _mm256_cvtepi32_ps(totals[b][half]);
    }
  }
}

}  // namespace
}  // namespace mobe

#include "kernels/packed_mix-inl.h"

#endif  // __x86_64__
