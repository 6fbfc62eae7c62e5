// NEON with dot products (ARMv8.2: Cortex-A76, Graviton 2, Apple M1 and newer):
// sdot multiplies signed by signed bytes, so the middle is taken from the
// codes.
#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstdint>

#define MOBE_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define MOBE_INLINE \
  __attribute__((target("arch=armv8.2-a+dotprod"), always_inline)) inline
#define MOBE_MULTIPLY MultiplyNeonDot

namespace mobe {
namespace {

MOBE_INLINE int32x4_t StartQuads(int32_t) { return vdupq_n_s32(0); }

MOBE_INLINE int32x4_t AddQuad(int32x4_t sums, uint8x16_t codes,
                              int8x16_t inputs) {
  const uint8x16_t middle = vdupq_n_u8(0x80);
  return vdotq_s32(sums, vreinterpretq_s8_u8(veorq_u8(codes, middle)), inputs);
}

}  // namespace
}  // namespace mobe

#include "kernels/dot_neon-inl.h"

#endif  // __aarch64__
