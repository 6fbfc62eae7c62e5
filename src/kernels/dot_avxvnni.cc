// AVX-VNNI (Alder Lake, Zen 5 and newer, where there is no AVX-512): vpdpbusd
// on vectors of eight rows.
#if defined(__x86_64__)

#include <immintrin.h>

#include <cstdint>

#include "kernels/dot_internal.h"

#define MOBE_TARGET __attribute__((target("avx2,fma,avxvnni")))
#define MOBE_INLINE \
  __attribute__((target("avx2,fma,avxvnni"), always_inline)) inline
#define MOBE_MULTIPLY MultiplyAvxVnni

namespace mobe {
namespace {

struct QuadInputs {
  __m256i all;
};

MOBE_INLINE QuadInputs LoadInputs(const int8_t* quad) {
  int32_t all = 0;
  __builtin_memcpy(&all, quad, sizeof(all));
  return {_mm256_set1_epi32(all)};
}

// RoundedInputs::middle is of codes of 8 bits.
MOBE_INLINE __m256i StartQuads(int32_t middle, int bits) {
  return _mm256_set1_epi32(middle / kCodeMiddle * MiddleOf(bits));
}

MOBE_INLINE __m256i AddQuad(__m256i sums, __m256i codes,
                            const QuadInputs& inputs, int) {
  return _mm256_dpbusd_avx_epi32(sums, codes, inputs.all);
}

}  // namespace
}  // namespace mobe

#include "kernels/dot_ymm-inl.h"

#endif  // __x86_64__
