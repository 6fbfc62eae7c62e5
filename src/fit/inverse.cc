#include "fit/inverse.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/cholesky.h"
#include "fit/diagonal.h"
#include "kernels/gemm.h"

namespace mobe::internal {
namespace {

constexpr int64_t kInverseGrain = 64;  // rows or columns that run together

// R with R^T R = matrix + damping I. False when that is not positive definite.
bool Factor(int64_t size, double damping, const Buffer<float>& matrix,
            Buffer<float>* factor) {
  factor->CopyFrom(matrix);
  AddToDiagonal(size, static_cast<float>(damping), factor->data());
  return Cholesky(size, factor->data(), size) < 0;
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
  // X = R^-1, upper: its columns are independent of one another, and column i
  // ends at row i.
  scratch->root.Resize(size * size);
  float* x = scratch->root.data();
  ParallelRanges(size, kInverseGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < size; ++row) {
      std::fill_n(x + row * size + begin, end - begin, 0.0f);
    }
    for (int64_t k = begin; k < end; ++k) x[k * size + k] = 1;
    SolveBackward(end, scratch->factor.data(), size, x + begin, size,
                  end - begin);
  });
  // The inverse is X X^T.
  inverse->Resize(size * size);
  float* y = inverse->data();
  ParallelRanges(size, kInverseGrain, [&](int64_t begin, int64_t end) {
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
