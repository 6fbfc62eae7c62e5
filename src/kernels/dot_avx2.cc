// AVX2: vpmaddubsw multiplies unsigned by signed bytes and adds pairs in 16
// bits, which the magnitude of an input (127) times a code with the input's
// sign (at most 127) does not overflow.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/dot_internal.h"

#define MOBE_TARGET __attribute__((target("avx2,fma")))
#define MOBE_INLINE __attribute__((target("avx2,fma"), always_inline)) inline

namespace mobe {
namespace {

MOBE_INLINE __m256 LoadScales(const uint16_t* scales) {
  const __m128i bits =
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales));
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// sums += codes (less their middle) times a quad of inputs, for eight rows.
MOBE_INLINE __m256i AddQuad(__m256i sums, __m256i codes, __m256i inputs,
                            __m256i magnitudes) {
  const __m256i pairs =
      _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(codes, inputs));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// kT tokens by the 16 rows of a block.
template <int kT>
MOBE_INLINE void MultiplyTile(const uint8_t* codes, const uint16_t* scales,
                              const PackedSizes& sizes, int64_t group_quads,
                              const RoundedInputs& x, int64_t token,
                              const LaneRange& lanes, float* y,
                              int64_t y_stride) {
  const __m256i middle = _mm256_set1_epi8(static_cast<char>(kCodeMiddle));
  const int8_t* in = x.codes.data() + token * x.quads * kQuad;
  __m256 sums[kT][2];
  for (auto& sum : sums) sum[0] = sum[1] = _mm256_setzero_ps();
  for (int64_t g = 0; g < sizes.groups; ++g) {
    const int64_t first = g * group_quads;
    const int64_t left = sizes.quads - first;
    const int64_t end = first + (left < group_quads ? left : group_quads);
    __m256i products[kT][2];
    for (auto& product : products) {
      product[0] = product[1] = _mm256_setzero_si256();
    }
    for (int64_t q = first; q < end; ++q) {
      const auto* from =
          reinterpret_cast<const __m256i*>(codes + q * kQuadBytes);
      const __m256i low = _mm256_xor_si256(_mm256_loadu_si256(from), middle);
      const __m256i high =
          _mm256_xor_si256(_mm256_loadu_si256(from + 1), middle);
      for (int t = 0; t < kT; ++t) {
        int32_t quad = 0;
        __builtin_memcpy(&quad, in + (t * x.quads + q) * kQuad, sizeof(quad));
        const __m256i inputs = _mm256_set1_epi32(quad);
        const __m256i magnitudes = _mm256_abs_epi8(inputs);
        products[t][0] = AddQuad(products[t][0], low, inputs, magnitudes);
        products[t][1] = AddQuad(products[t][1], high, inputs, magnitudes);
      }
    }
    const __m256 row_scales[2] = {LoadScales(scales + g * kPackedRows),
                                  LoadScales(scales + g * kPackedRows + 8)};
    for (int t = 0; t < kT; ++t) {
      const __m256 scale = _mm256_set1_ps(x.scales[(token + t) * x.groups + g]);
      for (int half = 0; half < 2; ++half) {
        sums[t][half] = _mm256_fmadd_ps(_mm256_mul_ps(row_scales[half], scale),
                                        _mm256_cvtepi32_ps(products[t][half]),
                                        sums[t][half]);
      }
    }
  }
  for (int t = 0; t < kT; ++t) {
    float all[kPackedRows];
    _mm256_storeu_ps(all, sums[t][0]);
    _mm256_storeu_ps(all + 8, sums[t][1]);
    __builtin_memcpy(y + t * y_stride + lanes.row, all + lanes.begin,
                     static_cast<size_t>(lanes.end - lanes.begin) * 4);
  }
}

}  // namespace

MOBE_TARGET void MultiplyAvx2(const WeightView& w, const RoundedInputs& x,
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

#endif  // __x86_64__
