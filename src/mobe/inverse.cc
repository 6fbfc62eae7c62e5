#include "mobe/inverse.h"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/gemm.h"
#include "mobe/diagonal.h"

namespace mobe::internal {
namespace {

constexpr int64_t kGrain = 64;  // rows that run together

// L of matrix + damping I, in column-major order, lower. False when that is
// not positive definite.
bool Factor(int64_t size, double damping, const Buffer<float>& matrix,
            Buffer<float>* factor) {
  factor->CopyFrom(matrix);
  AddToDiagonal(size, static_cast<float>(damping), factor->data());
  const int order = static_cast<int>(size);
  return LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'L', order, factor->data(),
                             order) == 0;
}

}  // namespace

void InvertDamped(int64_t size, double damping, const Buffer<float>& matrix,
                  InverseScratch* scratch, Buffer<float>* inverse) {
  constexpr int kTries = 8;
  bool done = false;
  for (int i = 0; i < kTries && !done; ++i, damping *= 10) {
    done = Factor(size, damping, matrix, &scratch->factor);
  }
  if (!done) Fail(ErrorKind::kInternal, "the metric of the fit is singular");
  // X = L^-1, column-major and lower: its rows are independent of one another,
  // and row i ends at column i.
  scratch->root.Resize(size * size);
  float* x = scratch->root.data();
  ParallelRanges(size, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t column = 0; column < size; ++column) {
      std::fill_n(x + column * size + begin, end - begin, 0.0f);
    }
    for (int64_t k = begin; k < end; ++k) x[k * size + k] = 1;
    cblas_strsm(CblasColMajor, CblasRight, CblasLower, CblasNoTrans,
                CblasNonUnit, static_cast<int>(end - begin),
                static_cast<int>(end), 1.0f, scratch->factor.data(),
                static_cast<int>(size), x + begin, static_cast<int>(size));
  });
  // The inverse is X^T X; in row-major order X is its transpose, R, and that is
  // R R^T with R upper.
  inverse->Resize(size * size);
  float* y = inverse->data();
  ParallelRanges(size, kGrain, [&](int64_t begin, int64_t end) {
    const int64_t corner = begin * size + begin;
    const int64_t left = size - begin;
    Gemm(Trans::kNo, Trans::kYes, end - begin, left, left, x + corner, size,
         x + corner, size, 0.0f, y + corner, size);
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = r + 1; c < size; ++c) y[c * size + r] = y[r * size + c];
    }
  });
}

}  // namespace mobe::internal
