#include "kernels/dot.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <cstring>
#include <string_view>

#include "kernels/amx.h"
#include "kernels/choose_set.h"
#include "kernels/dot_internal.h"
#include "kernels/kernels.h"

namespace mobe {
namespace {

#if defined(__x86_64__)
// g++ 12 knows no name of it to ask for. CPUID leaf 7, subleaf 1: EAX bit 4.
bool HasAvxVnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}
#endif

// Those that this CPU can run, best first.
std::vector<DotKernels> ListDots() {
  std::vector<DotKernels> sets;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vnni")) {
    if (HasAmxInt8()) sets.push_back({"amx", "avx512vnni", MultiplyAmx});
    sets.push_back({"avx512vnni", "avx512vnni", MultiplyAvx512Vnni});
  }
  if (HasAvxVnni()) sets.push_back({"avxvnni", "avx2", MultiplyAvxVnni});
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    sets.push_back({"avx2", "avx2", MultiplyAvx2});
  }
#elif defined(__aarch64__)
  // Bits of the kernel's asm/hwcap.h.
  constexpr unsigned long kDotProducts = 1ul << 20;  // of AT_HWCAP
  constexpr unsigned long kI8mm = 1ul << 13;         // of AT_HWCAP2
  const bool has_dot = (::getauxval(AT_HWCAP) & kDotProducts) != 0;
  if (has_dot && (::getauxval(AT_HWCAP2) & kI8mm) != 0) {
    sets.push_back({"neoni8mm", "neoni8mm", MultiplyNeonI8mm});
  }
  if (has_dot) sets.push_back({"neondot", "neondot", MultiplyNeonDot});
#endif
  sets.push_back({"scalar", "scalar", MultiplyScalar});
  return sets;
}

}  // namespace

void RoundedInputs::Resize(const FormatRow& format, int64_t cols,
                           int64_t count) {
  const PackedSizes sizes = PackedSizesOf(format, cols);
  tokens = count;
  quads = sizes.quads;
  groups = sizes.groups;
  codes.Resize(tokens * 2 * quads * kQuad);
  scales.Resize(tokens * groups);
  middle.Resize(tokens * groups);
}

void RoundToInt15(const FormatRow& format, const float* x, int64_t cols,
                  int64_t token, RoundedInputs* inputs) {
  const int64_t end = inputs->quads * kQuad;
  int8_t* high = inputs->codes.data() + token * 2 * end;
  int8_t* low = high + end;
  for (int64_t g = 0; g < inputs->groups; ++g) {
    const int64_t first = g * format.group;
    const int64_t at = token * inputs->groups + g;
    const RoundedRow row =
        Kernels().to_int15(x + first, std::min(format.group, cols - first),
                           high + first, low + first);
    inputs->scales[at] = row.scale;
    inputs->middle[at] = -kCodeMiddle * row.sum;
  }
  for (int8_t* half : {high, low}) {
    std::memset(half + cols, 0, static_cast<size_t>(end - cols));
  }
}

const uint8_t* BlockCodes(const WeightView& w, const PackedSizes& sizes,
                          int64_t block) {
  const FormatRow& format = RowOf(w.format);
  const auto* packed =
      static_cast<const uint8_t*>(w.codes) + block * sizes.code_bytes;
  if (format.bits == 8) return packed;
  thread_local Buffer<uint8_t> codes;
  codes.Resize(sizes.quads * kQuadBytes);
  const int64_t unit = format.quads * kQuadBytes;
  for (int64_t q = 0; q < sizes.quads; q += format.quads) {
    format.unpack(packed + q / format.quads * unit * format.bits / 8,
                  codes.data() + q * kQuadBytes);
  }
  return codes.data();
}

const std::vector<DotKernels>& SupportedDots() {
  static const std::vector<DotKernels> sets = ListDots();
  return sets;
}

const DotKernels& Dots() {
  static const DotKernels& chosen =
      ChooseSet(SupportedDots(), "MOBE_INT_KERNELS", "integer kernels");
  const bool scalar = std::string_view(Kernels().name) == "scalar";
  return scalar ? SupportedDots().back() : chosen;
}

}  // namespace mobe
