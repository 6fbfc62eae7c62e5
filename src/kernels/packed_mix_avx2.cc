// AVX2: vpmaddwd multiplies codes by whole alphas, both widened to 16 bits, and
// adds pairs in 32. Codes are widened once for all experts: of the four bases
// of a quad the even and the odd ones, as they come by shifts. (Of bytes,
// vpmaddubsw would take as many instructions for each expert as both together.)
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/packed_mix_internal.h"

#define MOBE_TARGET __attribute__((target("avx2,fma")))
#define MOBE_INLINE __attribute__((target("avx2,fma"), always_inline)) inline

namespace mobe {
namespace {

constexpr int kBlocks = 2;
constexpr int64_t kLanes = 8;
// Of a quad, prepared: even and odd bases of each half of the columns.
constexpr int64_t kWideQuadBytes = 2 * kQuadBytes;

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
  for (int64_t i = 0; i < count; i += kLanes) {
    const __m256i bits = _mm256_castps_si256(Products(alpha + i, scales + i));
    largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, magnitude));
  }
  const float factor = SetAlphaScale(LargestOf(largest), rounded);
  // Of numbers that are not finite times zero the conversion makes no zero.
  const __m256i keep = _mm256_set1_epi32(factor == 0 ? 0 : -1);
  const __m256i low_half = _mm256_set1_epi32(0xffff);
  for (int64_t i = 0; i < count; i += kLanes) {
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

// s and p of 2^(factor x) = s + s p.
struct Power {
  MOBE_INLINE Power(__m256 x, float factor) {
    const __m256 rounder = _mm256_set1_ps(kMixRounder);
    const __m256 factors = _mm256_set1_ps(factor);
    const __m256 z = _mm256_fmadd_ps(x, factors, rounder);
    const __m256 n = _mm256_sub_ps(z, rounder);
    const __m256 g = _mm256_fmsub_ps(x, factors, n);
    __m256 q = _mm256_set1_ps(kMixPowers[4]);
    q = _mm256_fmadd_ps(q, g, _mm256_set1_ps(kMixPowers[3]));
    q = _mm256_fmadd_ps(q, g, _mm256_set1_ps(kMixPowers[2]));
    q = _mm256_fmadd_ps(q, g, _mm256_set1_ps(kMixPowers[1]));
    q = _mm256_fmadd_ps(q, g, _mm256_set1_ps(kMixPowers[0]));
    p = _mm256_mul_ps(g, q);
    s = _mm256_castsi256_ps(_mm256_add_epi32(
        _mm256_slli_epi32(_mm256_castps_si256(z), kMixMantissaBits),
        _mm256_set1_epi32(kMixOneBits)));
  }
  __m256 p, s;
};

// Of minimum and maximum the second operand is the result where one is NaN.
MOBE_INLINE __m256 ClampTo(__m256 x, float most) {
  const __m256 above = _mm256_max_ps(_mm256_set1_ps(-most), x);
  return _mm256_min_ps(_mm256_set1_ps(most), above);
}

template <Activation kF>
MOBE_INLINE __m256 Activate(__m256 x) {
  const __m256 one = _mm256_set1_ps(1);
  if constexpr (kF == Activation::kSilu) {
    const Power power(ClampTo(x, kMixMostSilu), -kMixLog2E);
    return _mm256_div_ps(
        x, _mm256_fmadd_ps(power.p, power.s, _mm256_add_ps(power.s, one)));
  }
  if constexpr (kF == Activation::kTanh) {
    const Power power(ClampTo(x, kMixMostTanh), 2 * kMixLog2E);
    const __m256 w =
        _mm256_fmadd_ps(power.p, power.s, _mm256_sub_ps(power.s, one));
    return _mm256_div_ps(w, _mm256_add_ps(w, _mm256_set1_ps(2)));
  }
  return x;
}

template <Activation kF, int kB>
MOBE_INLINE void MixTile(const std::byte* codes, int64_t quads,
                         const RoundedAlphas& alphas, const int32_t* used_quads,
                         int64_t used, float* n) {
  __m256i sums[kB][2];
  for (auto& sum : sums) sum[0] = sum[1] = _mm256_setzero_si256();
  const int64_t stride = quads * kWideQuadBytes;
  for (int64_t u = 0; u < used; ++u) {
    const int64_t q = used_quads[u];
    const __m256i even = _mm256_set1_epi32(alphas.words[2 * q]);
    const __m256i odd = _mm256_set1_epi32(alphas.words[2 * q + 1]);
    const std::byte* quad = codes + q * kWideQuadBytes;
    for (int b = 0; b < kB; ++b) {
      const auto* from = reinterpret_cast<const __m256i*>(quad + b * stride);
      for (int half = 0; half < 2; ++half) {
        const __m256i evens = _mm256_loadu_si256(from + 2 * half);
        const __m256i odds = _mm256_loadu_si256(from + 2 * half + 1);
        sums[b][half] = _mm256_add_epi32(
            sums[b][half], _mm256_add_epi32(_mm256_madd_epi16(evens, even),
                                            _mm256_madd_epi16(odds, odd)));
      }
    }
  }
  const __m256 scale = _mm256_set1_ps(alphas.scale);
  for (int b = 0; b < kB; ++b) {
    for (int half = 0; half < 2; ++half) {
      const __m256 sum = _mm256_cvtepi32_ps(sums[b][half]);
      _mm256_storeu_ps(n + b * kBasesBlock + half * kLanes,
                       Activate<kF>(_mm256_mul_ps(scale, sum)));
    }
  }
}

template <Activation kF>
MOBE_TARGET void MixWith(const std::byte* codes, int64_t quads,
                         const RoundedAlphas& alphas, const int32_t* used_quads,
                         int64_t used, int64_t blocks, float* n) {
  const int64_t bytes = quads * kWideQuadBytes;
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
  mix(static_cast<const std::byte*>(codes), quads, alphas, used_quads, used,
      blocks, n);
}

MOBE_TARGET void Multiply(const float* n, const float* x, int64_t count,
                          float* sums) {
  constexpr int kParts = kMixLanes / kLanes;
  __m256 parts[kParts];
  for (int k = 0; k < kParts; ++k) {
    parts[k] = _mm256_loadu_ps(sums + kLanes * k);
  }
  int64_t c = 0;
  for (; c + kMixLanes <= count; c += kMixLanes) {
    for (int k = 0; k < kParts; ++k) {
      parts[k] = _mm256_fmadd_ps(_mm256_loadu_ps(n + c + kLanes * k),
                                 _mm256_loadu_ps(x + c + kLanes * k), parts[k]);
    }
  }
  for (int k = 0; k < kParts; ++k) {
    _mm256_storeu_ps(sums + kLanes * k, parts[k]);
  }
  for (int64_t lane = 0; c < count; ++c, ++lane) {
    sums[lane] = __builtin_fmaf(n[c], x[c], sums[lane]);
  }
}

}  // namespace

const PackedMixSet kAvx2PackedMix = {
    "avx2", kWideQuadBytes / kQuadBytes, Prepare, RoundAlphas, Mix, Multiply};

}  // namespace mobe

#endif  // __x86_64__
