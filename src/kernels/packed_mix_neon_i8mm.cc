// NEON with i8mm (ARMv8.6: Graviton 3, Apple M2, Cortex-X2 and newer): usdot
// multiplies unsigned by signed bytes.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "kernels/packed_mix_internal.h"

#define MOBE_TARGET __attribute__((target("arch=armv8.2-a+dotprod+i8mm")))
#define MOBE_INLINE \
  __attribute__((target("arch=armv8.2-a+dotprod+i8mm"), always_inline)) inline
#define MOBE_MIX kNeonI8mmPackedMix
#define MOBE_MIX_NAME "neoni8mm"

namespace mobe {
namespace {

// Codes are read in place.
constexpr int64_t kPreparedBytes = 0;
// NOLINTNEXTLINE(readability-identifier-naming): others define a function
constexpr decltype(PackedMixSet::prepare) Prepare = nullptr;

MOBE_INLINE int32x4_t StartQuads(int32_t middle) { return vdupq_n_s32(middle); }

template <int kLane>
MOBE_INLINE int32x4_t AddQuad(int32x4_t sums, uint8x16_t codes,
                              int8x8_t alphas) {
  return vusdotq_lane_s32(sums, codes, alphas, kLane);
}

}  // namespace
}  // namespace mobe

#include "kernels/packed_mix_neon-inl.h"

#endif  // __aarch64__
