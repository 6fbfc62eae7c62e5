// AVX2: vpmaddubsw multiplies unsigned by signed bytes and adds pairs in 16
// bits, which the magnitude of an input (127) times a code with the input's
// sign (at most 127) does not overflow.
#if defined(__x86_64__)

#include <immintrin.h>

#include <cstdint>

#include "kernels/dot_internal.h"

#define MOBE_TARGET __attribute__((target("avx2,fma")))
#define MOBE_INLINE __attribute__((target("avx2,fma"), always_inline)) inline
#define MOBE_MULTIPLY MultiplyAvx2

namespace mobe {
namespace {

struct QuadInputs {
  __m256i signs, magnitudes;
};

MOBE_INLINE QuadInputs LoadInputs(const int8_t* quad) {
  int32_t all = 0;
  __builtin_memcpy(&all, quad, sizeof(all));
  const __m256i inputs = _mm256_set1_epi32(all);
  return {inputs, _mm256_abs_epi8(inputs)};
}

// The middle is taken from the codes instead.
MOBE_INLINE __m256i StartQuads(int32_t, int) { return _mm256_setzero_si256(); }

MOBE_INLINE __m256i AddQuad(__m256i sums, __m256i codes,
                            const QuadInputs& inputs, int bits) {
  const __m256i middle = _mm256_set1_epi8(static_cast<char>(MiddleOf(bits)));
  const __m256i pairs = _mm256_maddubs_epi16(
      inputs.magnitudes,
      _mm256_sign_epi8(_mm256_sub_epi8(codes, middle), inputs.signs));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

}  // namespace
}  // namespace mobe

#include "kernels/dot_ymm-inl.h"

#endif  // __x86_64__
