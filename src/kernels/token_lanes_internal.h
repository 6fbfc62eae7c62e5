// What token_lanes.cc collects its sets from; nobody else includes this.
#pragma once

#include "kernels/token_lanes.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace mobe {

void MultiplyLanesAvx512(const BFloat16* w, int64_t rows, const TokenLanes& x,
                         float* y, int64_t y_stride);
void MultiplyLanesAmx(const BFloat16* w, int64_t rows, const TokenLanes& x,
                      float* y, int64_t y_stride);

// to [pairs, lanes, 2] = rows [kLaneTokens, pairs, 2], the first `lanes` of
// them. For AVX-512.
void PackLanes(const BFloat16* rows, int64_t pairs, int64_t lanes,
               BFloat16* to);

// Lane j of vector i becomes lane i of vector j.
__attribute__((target("avx512f"), always_inline)) inline void TransposeLanes(
    __m512i (&v)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // Vector 4 i + k has the columns k, k + 4, ... of the rows 4 i to 4 i + 3.
  for (int k = 0; k < 4; ++k) {
    t[k] = _mm512_shuffle_i32x4(v[k], v[k + 4], 0x88);
    t[k + 4] = _mm512_shuffle_i32x4(v[k], v[k + 4], 0xdd);
    t[k + 8] = _mm512_shuffle_i32x4(v[k + 8], v[k + 12], 0x88);
    t[k + 12] = _mm512_shuffle_i32x4(v[k + 8], v[k + 12], 0xdd);
  }
  for (int k = 0; k < 4; ++k) {
    v[k] = _mm512_shuffle_i32x4(t[k], t[k + 8], 0x88);
    v[k + 8] = _mm512_shuffle_i32x4(t[k], t[k + 8], 0xdd);
    v[k + 4] = _mm512_shuffle_i32x4(t[k + 4], t[k + 12], 0x88);
    v[k + 12] = _mm512_shuffle_i32x4(t[k + 4], t[k + 12], 0xdd);
  }
}

}  // namespace mobe

#endif  // __x86_64__
