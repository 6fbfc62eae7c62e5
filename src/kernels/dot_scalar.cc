#include <cmath>

#include "kernels/dot_internal.h"

namespace mobe {

void MultiplyScalar(const WeightView& w, const RoundedInputs& x, int64_t first,
                    int64_t tokens, float* y, int64_t y_stride) {
  const int64_t group_quads = RowOf(w.format).group / kQuad;
  const PackedSizes sizes = PackedSizesOf(RowOf(w.format), w.cols);
  for (LaneRange lanes = FirstLanes(w); lanes.row < w.rows;
       lanes = NextLanes(w, lanes)) {
    const uint8_t* codes = BlockCodes(w, sizes, lanes.block);
    const uint16_t* scales = BlockScales(w, sizes, lanes.block);
    for (int64_t t = 0; t < tokens; ++t) {
      const int8_t* high = x.high(first + t);
      const int8_t* low = high + x.to_low();
      const int64_t group = (first + t) * x.groups;
      for (int64_t lane = lanes.begin; lane < lanes.end; ++lane) {
        float sum = 0;
        for (int64_t g = 0; g < sizes.groups; ++g) {
          int32_t products = x.middle[group + g];
          const int64_t end = std::min((g + 1) * group_quads, sizes.quads);
          for (int64_t q = g * group_quads; q < end; ++q) {
            for (int64_t i = 0; i < kQuad; ++i) {
              const int64_t at = q * kQuad + i;
              products += codes[q * kQuadBytes + lane * kQuad + i] *
                          (128 * high[at] + low[at]);
            }
          }
          const float scale =
              ToFloat(BFloat16{scales[g * kPackedRows + lane]}) *
              x.scales[group + g];
          sum = std::fma(scale, static_cast<float>(products), sum);
        }
        y[t * y_stride + lanes.row + lane - lanes.begin] = sum;
      }
    }
  }
}

}  // namespace mobe
