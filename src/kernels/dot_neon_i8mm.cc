// NEON with i8mm (ARMv8.6: Graviton 3, Apple M2, Cortex-X2 and newer): usdot
// multiplies unsigned by signed bytes.
#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstdint>

#define MOBE_TARGET __attribute__((target("arch=armv8.2-a+dotprod+i8mm")))
#define MOBE_INLINE \
  __attribute__((target("arch=armv8.2-a+dotprod+i8mm"), always_inline)) inline
#define MOBE_MULTIPLY MultiplyNeonI8mm

namespace mobe {
namespace {

MOBE_INLINE int32x4_t StartQuads(int32_t middle) { return vdupq_n_s32(middle); }

MOBE_INLINE int32x4_t AddQuad(int32x4_t sums, uint8x16_t codes,
                              int8x16_t inputs) {
  return vusdotq_s32(sums, codes, inputs);
}

}  // namespace
}  // namespace mobe

#include "kernels/dot_neon-inl.h"

#endif  // __aarch64__
