#include "kernels/dot.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "kernels/dot_internal.h"
#include "kernels/kernels.h"

namespace mobe {
namespace {

// Those that this CPU can run, best first.
std::vector<DotKernels> ListDots() {
  std::vector<DotKernels> sets;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vnni")) {
    sets.push_back({"avx512vnni", MultiplyAvx512Vnni});
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    sets.push_back({"avx2", MultiplyAvx2});
  }
#endif
  sets.push_back({"scalar", MultiplyScalar});
  return sets;
}

}  // namespace

void RoundedInputs::Resize(const FormatRow& format, int64_t cols,
                           int64_t count) {
  const PackedSizes sizes = PackedSizesOf(format, cols);
  tokens = count;
  quads = sizes.quads;
  groups = sizes.groups;
  codes.Resize(tokens * quads * kQuad);
  scales.Resize(tokens * groups);
  middle.Resize(tokens * groups);
}

void RoundToInt8(const FormatRow& format, const float* x, int64_t cols,
                 int64_t token, RoundedInputs* inputs) {
  int8_t* codes = inputs->codes.data() + token * inputs->quads * kQuad;
  for (int64_t g = 0; g < inputs->groups; ++g) {
    const int64_t first = g * format.group;
    const int64_t at = token * inputs->groups + g;
    const RoundedRow row = Kernels().to_int8(
        x + first, std::min(format.group, cols - first), codes + first);
    inputs->scales[at] = row.scale;
    inputs->middle[at] = -kCodeMiddle * row.sum;
  }
  const int64_t end = inputs->quads * kQuad;
  if (cols < end) std::memset(codes + cols, 0, static_cast<size_t>(end - cols));
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
  const bool scalar = std::string_view(Kernels().name) == "scalar";
  return scalar ? SupportedDots().back() : SupportedDots().front();
}

}  // namespace mobe
