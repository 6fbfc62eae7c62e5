// Low-rank bases and sparse alpha: what is cut off is cut in the least squares
// sense of the bases and of each expert's mix. The fast solver does so on its
// way (project.h), so that nothing but rounding is left for the end; the
// reference one knows of neither, and is cut once.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/diagonal.h"
#include "fit/fit.h"
#include "kernels/blas.h"
#include "kernels/gemm.h"

namespace mobe {
namespace {

// Solves G x = b for `count` right sides, G symmetric [size, size], b [count,
// size] row-major, in place; G is destroyed.
void SolveSymmetric(int64_t size, float* gram, int64_t count, float* b) {
  AddRidge(size, gram);
  const int order = static_cast<int>(size);
  const int info =
      LAPACKE_sposv_work(LAPACK_COL_MAJOR, 'L', order, static_cast<int>(count),
                         gram, order, b, order);
  CheckLapackMemory(info);
  if (info != 0) {
    Fail(ErrorKind::kInternal,
         "normal equations of the fit can't be solved ({}); try another --seed",
         info);
  }
}

// Keeps the `kept` largest |alpha_i| |B_i| of one expert and moves them to
// where their mix is nearest to what it was. `gram` holds B_i . B_j.
void Sparsify(const std::vector<double>& gram, int64_t m, int64_t kept,
              float* alpha) {
  const auto norm = [&](int64_t i) {
    return std::sqrt(std::max(gram[i * m + i], 1e-30));
  };
  std::vector<int64_t> order(m);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return std::fabs(alpha[a]) * norm(a) > std::fabs(alpha[b]) * norm(b);
  });
  order.resize(kept);
  // In units of each basis' norm, which may differ by orders of magnitude.
  Buffer<float> normal(kept * kept);
  Buffer<float> solution(kept);
  for (int64_t r = 0; r < kept; ++r) {
    const double* row = gram.data() + order[r] * m;
    for (int64_t c = 0; c < kept; ++c) {
      normal[r * kept + c] =
          static_cast<float>(row[order[c]] / (norm(order[r]) * norm(order[c])));
    }
    const double product = std::inner_product(row, row + m, alpha, 0.0);
    solution[r] = static_cast<float>(product / norm(order[r]));
  }
  SolveSymmetric(kept, normal.data(), 1, solution.data());
  std::fill_n(alpha, m, 0.0f);
  for (int64_t r = 0; r < kept; ++r) {
    alpha[order[r]] = static_cast<float>(solution[r] / norm(order[r]));
  }
}

}  // namespace

void MultiplyBases(int64_t cols, Factors* factors) {
  const int64_t rank = factors->rank;
  const int64_t k = factors->basis_rank;
  if (k == 0) return;
  factors->bases.Resize(factors->num_bases * rank * cols);
  ParallelFor(factors->num_bases, [&](int64_t i) {
    Gemm(Trans::kNo, Trans::kNo, rank, cols, k,
         factors->bases_left.data() + i * rank * k, k,
         factors->bases_right.data() + i * k * cols, cols, 0.0f,
         factors->bases.data() + i * rank * cols, cols);
  });
}

void RoundShared(DType dtype, int64_t cols, Factors* factors) {
  RoundTo(dtype, &factors->alpha);
  if (factors->basis_rank == 0) {
    RoundTo(dtype, &factors->bases);
  } else {
    RoundTo(dtype, &factors->bases_left);
    RoundTo(dtype, &factors->bases_right);
    MultiplyBases(cols, factors);
  }
}

void RoundFactors(DType dtype, int64_t cols, Factors* factors) {
  RoundTo(dtype, &factors->a);
  RoundShared(dtype, cols, factors);
}

namespace internal {

void SplitBasis(const float* basis, int64_t rank, int64_t cols, int64_t kept,
                float* left, float* right) {
  // Column-major LAPACK sees the transpose, B^T = V^T S U^T: what it calls U
  // has the rows of our V in its columns.
  Buffer<float> b(rank * cols);
  std::copy_n(basis, b.size(), b.data());
  Buffer<float> s(rank);
  Buffer<float> v(rank * cols);
  Buffer<float> u(rank * rank);
  const int info = LAPACKE_sgesdd(
      LAPACK_COL_MAJOR, 'S', static_cast<int>(cols), static_cast<int>(rank),
      b.data(), static_cast<int>(cols), s.data(), v.data(),
      static_cast<int>(cols), u.data(), static_cast<int>(rank));
  CheckLapackMemory(info);
  if (info != 0) {
    Fail(ErrorKind::kInternal, "the SVD of a basis failed ({})", info);
  }
  for (int64_t k = 0; k < kept; ++k) {
    const float root = std::sqrt(s[k]);
    for (int64_t row = 0; row < rank; ++row) {
      left[row * kept + k] = root * u[row * rank + k];
    }
    for (int64_t j = 0; j < cols; ++j) {
      right[k * cols + j] = root * v[k * cols + j];
    }
  }
}

std::vector<double> GramOfBases(const Buffer<float>& bases, int64_t num_bases) {
  const int64_t m = num_bases;
  const int64_t size = bases.size() / m;
  std::vector<double> gram(m * m);
  ParallelFor(m, [&](int64_t i) {
    for (int64_t j = 0; j < m; ++j) {
      gram[i * m + j] =
          cblas_dsdot(static_cast<int>(size), bases.data() + i * size, 1,
                      bases.data() + j * size, 1);
    }
  });
  return gram;
}

void SparsifyAlpha(const std::vector<double>& gram, int64_t num_bases,
                   int64_t kept, Buffer<float>* alpha) {
  ParallelFor(alpha->size() / num_bases, [&](int64_t e) {
    Sparsify(gram, num_bases, kept, alpha->data() + e * num_bases);
  });
}

void SolveA(const FitTarget& target, Factors* factors) {
  PrepareBlas();
  const int64_t rank = factors->rank;
  const int64_t cols = target.cols;
  factors->a.Resize(target.experts * target.rows * rank);
  ParallelFor(target.experts, [&](int64_t e) {
    Buffer<float> active;
    Buffer<float> gram(rank * rank);
    MixExpert(*factors, e, cols, &active);
    float* a = factors->a.data() + e * target.rows * rank;
    // A^T's columns are A's rows, so G A^T = N W^T is solved in place.
    Gemm(Trans::kNo, Trans::kYes, rank, rank, cols, active.data(), cols,
         active.data(), cols, 0.0f, gram.data(), rank);
    Gemm(Trans::kNo, Trans::kYes, target.rows, rank, cols, target.matrix(e),
         cols, active.data(), cols, 0.0f, a, rank);
    SolveSymmetric(rank, gram.data(), target.rows, a);
  });
}

namespace {

void TruncateBases(int64_t cols, int64_t k, Factors* factors) {
  const int64_t m = factors->num_bases;
  const int64_t rank = factors->rank;
  factors->basis_rank = k;
  factors->bases_left.Resize(m * rank * k);
  factors->bases_right.Resize(m * k * cols);
  ParallelFor(m, [&](int64_t i) {
    SplitBasis(factors->bases.data() + i * rank * cols, rank, cols, k,
               factors->bases_left.data() + i * rank * k,
               factors->bases_right.data() + i * k * cols);
  });
  MultiplyBases(cols, factors);
}

}  // namespace

bool ApplyVariants(const FitTarget& target, const FitOptions& options,
                   Factors* factors) {
  const bool sparse =
      options.max_alphas != 0 && options.max_alphas < options.num_bases;
  if (options.basis_rank == 0 && !sparse) return false;
  PrepareBlas();
  if (options.basis_rank != 0) {
    TruncateBases(target.cols, options.basis_rank, factors);
  }
  if (sparse) {
    SparsifyAlpha(GramOfBases(factors->bases, options.num_bases),
                  options.num_bases, options.max_alphas, &factors->alpha);
  }
  return true;
}

}  // namespace internal
}  // namespace mobe
