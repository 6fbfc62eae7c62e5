// The published start: grouped SVDs.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/fit.h"
#include "fit/method.h"
#include "kernels/blas.h"

namespace mobe::internal {
namespace {

// The sign of a pair of singular vectors is free, LAPACK's choice varies with
// its version, and silu is not odd: the sign changes the fit. Ours makes the
// component of v that is largest in magnitude positive. u has `stride` numbers
// between its components.
void FixSign(float* v, int64_t v_size, float* u, int64_t u_size,
             int64_t stride) {
  const float* largest = std::max_element(v, v + v_size, [](float a, float b) {
    return std::fabs(a) < std::fabs(b);
  });
  if (*largest >= 0) return;
  for (int64_t j = 0; j < v_size; ++j) v[j] = -v[j];
  for (int64_t j = 0; j < u_size; ++j) u[j * stride] = -u[j * stride];
}

}  // namespace

SvdStart GroupedSvd(const float* weights, int64_t experts, int64_t rows,
                    int64_t cols, int64_t num_bases, int64_t rank) {
  PrepareBlas();
  SvdStart start;
  start.bases.Resize(num_bases * rank * cols);
  start.group.resize(experts);
  start.a.Resize(experts * rows * rank);
  ParallelFor(num_bases, [&](int64_t g) {
    const int64_t first = GroupBegin(g, experts, num_bases);
    const int64_t last = GroupBegin(g + 1, experts, num_bases);
    const int64_t height = (last - first) * rows;
    const int64_t kept = std::min(height, cols);
    // Column-major LAPACK sees the transpose W^T = V S U^T, so what it calls U
    // is V with its columns adjacent: the rows that we want.
    Buffer<float> w(height * cols);
    Buffer<float> s(kept);
    Buffer<float> v(kept * cols);
    Buffer<float> u(height * kept);
    std::memcpy(w.data(), weights + first * rows * cols,
                height * cols * sizeof(float));
    const int info = LAPACKE_sgesdd(
        LAPACK_COL_MAJOR, 'S', static_cast<int>(cols), static_cast<int>(height),
        w.data(), static_cast<int>(cols), s.data(), v.data(),
        static_cast<int>(cols), u.data(), static_cast<int>(kept));
    CheckLapackMemory(info);
    if (info != 0) {
      Fail(ErrorKind::kInternal, "the SVD of expert group {} failed ({})", g,
           info);
    }
    for (int64_t k = 0; k < rank; ++k) {
      FixSign(v.data() + k * cols, cols, u.data() + k, height, kept);
    }
    std::memcpy(start.bases.data() + g * rank * cols, v.data(),
                rank * cols * sizeof(float));
    for (int64_t e = first; e < last; ++e) {
      start.group[e] = g;
      for (int64_t row = 0; row < rows; ++row) {
        const float* u_row = u.data() + ((e - first) * rows + row) * kept;
        float* a_row = start.a.data() + (e * rows + row) * rank;
        for (int64_t k = 0; k < rank; ++k) a_row[k] = u_row[k] * s[k];
      }
    }
  });
  return start;
}

double GroupedSvdOperations(const FitShape& s) {
  // R-SVD of each group (Golub and Van Loan, Matrix Computations, table of
  // the SVD's costs): 6 a b^2 + 20 b^3 for a >= b.
  const auto rows = static_cast<double>(s.experts) /
                    static_cast<double>(s.num_bases) *
                    static_cast<double>(s.rows);
  const double a = std::max(rows, static_cast<double>(s.cols));
  const double b = std::min(rows, static_cast<double>(s.cols));
  return static_cast<double>(s.num_bases) * (6 * a * b * b + 20 * b * b * b);
}

int64_t GroupedSvdNumbers(const FitShape& s) {
  // A group, its singular vectors, and as much again for LAPACK.
  const int64_t height = (s.experts + s.num_bases - 1) / s.num_bases * s.rows;
  const int64_t kept = std::min(height, s.cols);
  return std::min<int64_t>(s.num_bases, Threads()) *
         (height * s.cols + 2 * kept * (height + s.cols) + 4 * kept * kept);
}

}  // namespace mobe::internal
