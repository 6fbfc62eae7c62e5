#include "kernels/expand.h"

#include <algorithm>

#include "kernels/kernels.h"
#include "tensor/packed.h"

namespace mobe {
namespace {

// Block by block.
void ExpandFloat8(const Float8* row, const float* scales, int64_t block_cols,
                  int64_t first, int64_t count, float* out) {
  const int64_t end = first + count;
  for (int64_t block = first / block_cols; first < end; ++block) {
    // A block may be far wider than the matrix.
    const int64_t left = block_cols - first % block_cols;
    const int64_t size = std::min(left, end - first);
    Kernels().from_float8(row + first, size, scales[block], out);
    first += size;
    out += size;
  }
}

}  // namespace

void ExpandColumns(const WeightView& w, int64_t first, int64_t count,
                   float* out) {
  if (w.packed()) return DecodePacked(w, first, count, out);
  for (int64_t r = 0; r < w.rows; ++r) {
    float* to = out + r * count;
    switch (w.format) {
      case NumberFormat::kF8:
        ExpandFloat8(w.Row<Float8>(r), w.RowScales(r), w.block_cols, first,
                     count, to);
        break;
      case NumberFormat::kBF16:
        Kernels().from_bfloat16(w.Row<BFloat16>(r) + first, count, to);
        break;
      case NumberFormat::kF16:
        Kernels().from_float16(w.Row<Float16>(r) + first, count, to);
        break;
      default:
        std::copy_n(w.Row<float>(r) + first, count, to);
    }
  }
}

}  // namespace mobe
