#include "kernels/token_lanes.h"

#include <algorithm>
#include <string_view>

#include "base/matrix.h"
#include "kernels/amx.h"
#include "kernels/choose_set.h"
#include "kernels/kernels.h"
#include "kernels/token_lanes_internal.h"

namespace mobe {
namespace {

std::vector<LaneKernels> ListLanes() {
  std::vector<LaneKernels> sets;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) {
    if (HasAmxBFloat16()) sets.push_back({"amx", MultiplyLanesAmx});
    if (__builtin_cpu_supports("avx512bf16")) {
      sets.push_back({"avx512bf16", MultiplyLanesAvx512});
    }
  }
#endif
  sets.push_back({"float32", nullptr});
  return sets;
}

}  // namespace

#if defined(__x86_64__)
void TokenLanes::Pack(const float* x, int64_t block) const {
  const int64_t first = block * kLaneTokens;
  const int64_t count = std::min(kLaneTokens, tokens - first);
  const int64_t stride = pairs() * 2;
  const auto round = [&](BFloat16* to) {
    for (int64_t t = 0; t < count; ++t, to += stride) {
      Kernels().to_bfloat16(x + (first + t) * inputs, inputs, to);
      std::fill(to + inputs, to + stride, BFloat16{0});
    }
  };
  if (lanes() == 1) return round(values);
  thread_local Buffer<BFloat16> rounded;
  rounded.Resize(kLaneTokens * stride);
  round(rounded.data());
  // Lanes that are not stored need no zeros, but are read.
  std::fill(rounded.begin() + count * stride, rounded.end(), BFloat16{0});
  PackLanes(rounded.data(), pairs(), lanes(), values + block * block_size());
}
#else
void TokenLanes::Pack(const float*, int64_t) const {}
#endif

const std::vector<LaneKernels>& SupportedLanes() {
  static const std::vector<LaneKernels> sets = ListLanes();
  return sets;
}

const LaneKernels& Lanes() {
  static const LaneKernels& chosen =
      ChooseSet(SupportedLanes(), "MOBE_BF16_KERNELS", "kernels of bfloat16");
  const bool wide = std::string_view(Kernels().name).starts_with("avx3");
  return wide ? chosen : SupportedLanes().back();
}

}  // namespace mobe
