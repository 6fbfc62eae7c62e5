// Matrix products of the fast solver, in the precision that a pass runs in:
// float32, or bfloat16 with float32 sums. Serial: experts run in parallel.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/matrix.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"

namespace mobe::internal {

// A row-major matrix that enters a product. With `half` the product runs in
// bfloat16, and `full` may be null.
struct Operand {
  const float* full = nullptr;
  const BFloat16* half = nullptr;
  int64_t cols = 0;

  // Without its first elements.
  Operand From(int64_t element) const {
    return {full == nullptr ? nullptr : full + element,
            half == nullptr ? nullptr : half + element, cols};
  }
};

// x [size / cols, cols], rounded into `half` where `precision` says so.
inline Operand Round(Precision precision, const float* x, int64_t size,
                     int64_t cols, Buffer<BFloat16>* half) {
  if (precision == Precision::kFloat32) return {x, nullptr, cols};
  half->Resize(size);
  Kernels().to_bfloat16(x, size, half->data());
  return {x, half->data(), cols};
}

// c [m, n] = op(a) op(b), as in gemm.h; both operands in the same precision.
inline void Multiply(Trans trans_a, Trans trans_b, int64_t m, int64_t n,
                     int64_t k, const Operand& a, const Operand& b, float* c,
                     int64_t ldc) {
  if (a.half != nullptr) {
    GemmBFloat16(trans_a, trans_b, m, n, k, a.half, a.cols, b.half, b.cols, c,
                 ldc);
  } else {
    Gemm(trans_a, trans_b, m, n, k, a.full, a.cols, b.full, b.cols, 0.0f, c,
         ldc);
  }
}
inline void Multiply(Trans trans_a, Trans trans_b, int64_t m, int64_t n,
                     int64_t k, const Operand& a, const Operand& b, float* c) {
  Multiply(trans_a, trans_b, m, n, k, a, b, c, n);
}

// c [m, n] = a op(h), a [m, n] and h [n, n] lower triangular: some more than
// half of the product.
inline void MultiplyByTriangle(Trans trans_h, int64_t m, const Operand& a,
                               const Operand& h, float* c) {
  constexpr int64_t kBlock = 256;
  const int64_t n = h.cols;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t width = std::min(kBlock, n - begin);
    if (trans_h == Trans::kNo) {  // rows of h from `begin` on
      Multiply(Trans::kNo, Trans::kNo, m, width, n - begin, a.From(begin),
               h.From(begin * n + begin), c + begin, n);
    } else {
      Multiply(Trans::kNo, Trans::kYes, m, width, begin + width, a,
               h.From(begin * n), c + begin, n);
    }
  }
}

// c [m, m] = a a^T for a [m, a.cols]: the upper triangle, and what of the lower
// one lies in the same blocks. That saves up to half of the product.
inline void MultiplyBySelf(int64_t m, const Operand& a, float* c) {
  constexpr int64_t kBlock = 192;
  for (int64_t begin = 0; begin < m; begin += kBlock) {
    const Operand rows = a.From(begin * a.cols);
    Multiply(Trans::kNo, Trans::kYes, std::min(kBlock, m - begin), m - begin,
             a.cols, rows, rows, c + begin * m + begin, m);
  }
}

}  // namespace mobe::internal
