#include "fit/cholesky.h"

#include <algorithm>

#include "kernels/gemm.h"
#include "kernels/kernels.h"

namespace mobe::internal {
namespace {

// Rows of a panel: all nearly alike, and of whole vectors.
int64_t PanelOf(int64_t n) {
  constexpr int64_t kUnit = 16;
  const int64_t panels = (n + kMaxTriangle - 1) / kMaxTriangle;
  if (panels <= 1) return kMaxTriangle;
  return ((n + panels - 1) / panels + kUnit - 1) / kUnit * kUnit;
}

}  // namespace

int64_t Cholesky(int64_t n, float* g, int64_t stride) {
  const int64_t panel = PanelOf(n);
  for (int64_t k = 0; k < n; k += panel) {
    const int64_t rows = std::min(panel, n - k);
    float* corner = g + k * stride + k;
    // The finished rows, from column k on.
    if (k > 0) {
      GemmSubtract(Trans::kYes, Trans::kNo, rows, n - k, k, g + k, stride,
                   g + k, stride, corner, stride);
    }
    const int64_t failed = Kernels().cholesky(rows, corner, stride);
    if (failed >= 0) return k + failed;
    Kernels().solve_triangle(rows, corner, stride, 1, corner + rows, stride,
                             n - k - rows);
  }
  return -1;
}

void SolveForward(int64_t n, const float* r, int64_t r_stride, float* x,
                  int64_t x_stride, int64_t count) {
  const int64_t panel = PanelOf(n);
  for (int64_t k = 0; k < n; k += panel) {
    const int64_t rows = std::min(panel, n - k);
    float* now = x + k * x_stride;
    if (k > 0) {
      GemmSubtract(Trans::kYes, Trans::kNo, rows, count, k, r + k, r_stride, x,
                   x_stride, now, x_stride);
    }
    Kernels().solve_triangle(rows, r + k * (r_stride + 1), r_stride, 1, now,
                             x_stride, count);
  }
}

void SolveBackward(int64_t n, const float* r, int64_t r_stride, float* x,
                   int64_t x_stride, int64_t count) {
  const int64_t panel = PanelOf(n);
  for (int64_t end = n; end > 0; end -= panel) {
    const int64_t k = std::max<int64_t>(end - panel, 0);
    const int64_t rows = end - k;
    float* now = x + k * x_stride;
    if (end < n) {
      GemmSubtract(Trans::kNo, Trans::kNo, rows, count, n - end,
                   r + k * r_stride + end, r_stride, x + end * x_stride,
                   x_stride, now, x_stride);
    }
    // From the last row and column backwards.
    Kernels().solve_triangle(rows, r + (end - 1) * (r_stride + 1), -1,
                             -r_stride, now + (rows - 1) * x_stride, -x_stride,
                             count);
  }
}

}  // namespace mobe::internal
