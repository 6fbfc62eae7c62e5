#include "kernels/expand.h"

#include <algorithm>

#include "kernels/kernels.h"

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
  for (int64_t r = 0; r < w.rows; ++r) {
    const void* row = w.Rows(r, 1).data;
    float* to = out + r * count;
    if (w.dtype == DType::kF8E4M3) {
      ExpandFloat8(static_cast<const Float8*>(row), w.scales.Row(r),
                   w.scales.block_cols, first, count, to);
    } else if (w.dtype == DType::kBF16) {
      Kernels().from_bfloat16(static_cast<const BFloat16*>(row) + first, count,
                              to);
    } else {
      std::copy_n(static_cast<const float*>(row) + first, count, to);
    }
  }
}

}  // namespace mobe
