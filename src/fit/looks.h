// When the fast solver's metric (metric.h) looks at which experts, and how it
// weighs what it sees: the same on every device.
#pragma once

#include <algorithm>
#include <cstdint>

namespace mobe::internal {

// Experts that one look takes in, others each time where there are more. The
// metric must be accurate while bases move far: on the bundled model (32
// experts) looks at 8 experts take twice the passes to the same error, and
// looks at 32 gain nothing.
inline constexpr int64_t kLook = 16;
// There is a look at each of the first kSettled passes, then at each kEvery-th;
// a look has weight kRenew in the means, the first one all. While bases move
// far the metric must be fresh: on the bundled model looks at every fourth pass
// from the start take twice the passes to the same error.
inline constexpr int64_t kSettled = 200;
inline constexpr int64_t kEvery = 4;
inline constexpr float kRenew = 0.3f;
// Damping: of bases and ranks relative to the mean of the diagonal, of columns
// to that of H H^T, which is what P would be if A followed no move at all.
inline constexpr double kDamping = 0.03;
inline constexpr double kColumnDamping = 0.03;
// In bfloat16 the projection is off by less than 1%, which H may blow up.
inline constexpr float kProjectionFloor = 0.01f;

// Between the experts seen in one pass.
inline int64_t LookStride(int64_t experts) {
  return (experts + kLook - 1) / kLook;
}

inline bool LooksAt(int64_t expert, int64_t pass, int64_t stride) {
  if (pass <= kSettled) return (expert + pass) % stride == 0;
  return pass % kEvery == 0 && (expert + pass / kEvery) % stride == 0;
}

// How many of the first `passes` passes look at experts.
inline int64_t LooksIn(int64_t passes) {
  const int64_t settled = std::min(passes, kSettled);
  return settled + passes / kEvery - settled / kEvery;
}

}  // namespace mobe::internal
