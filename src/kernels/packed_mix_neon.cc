// NEON with dot products (ARMv8.2: Cortex-A76, Graviton 2, Apple M1 and newer):
// sdot multiplies signed by signed bytes, so the middle is taken from the
// codes, once for all experts.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "kernels/packed_mix_internal.h"

#define MOBE_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define MOBE_INLINE \
  __attribute__((target("arch=armv8.2-a+dotprod"), always_inline)) inline
#define MOBE_MIX kNeonDotPackedMix
#define MOBE_MIX_NAME "neondot"

namespace mobe {
namespace {

constexpr int64_t kPreparedBytes = 1;

MOBE_TARGET void Prepare(const uint8_t* codes, int64_t count, void* prepared) {
  const uint8x16_t middle = vdupq_n_u8(kCodeMiddle);
  auto* to = static_cast<uint8_t*>(prepared);
  for (int64_t i = 0; i < count; i += 16) {
    vst1q_u8(to + i, veorq_u8(vld1q_u8(codes + i), middle));
  }
}

MOBE_INLINE int32x4_t StartQuads(int32_t) { return vdupq_n_s32(0); }

template <int kLane>
MOBE_INLINE int32x4_t AddQuad(int32x4_t sums, uint8x16_t codes,
                              int8x8_t alphas) {
  return vdotq_lane_s32(sums, vreinterpretq_s8_u8(codes), alphas, kLane);
}

}  // namespace
}  // namespace mobe

#include "kernels/packed_mix_neon-inl.h"

#endif  // __aarch64__
