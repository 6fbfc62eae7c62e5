#include "fit/baselines.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "base/visible.h"
#include "fit/weighted_solve.h"
#include "kernels/blas.h"
#include "kernels/gemm.h"

namespace mobe {
namespace {

// The leading `rank` left singular vectors of M S^(1/2) as columns of u [rows,
// rank], S the moment of the target's expert: eigenvectors of M S M^T, in
// double. No root of S is needed, nor its inverse: the best approximation of M
// in the norm of S is its projection U U^T M.
void LeadingVectors(const FitTarget& target, int64_t expert, const float* m,
                    int64_t rank, float* u) {
  const int64_t rows = target.rows;
  const int64_t cols = target.cols;
  thread_local Buffer<float> moment;
  thread_local Buffer<float> weighed;
  const float* ms = m;
  if (target.moment.size() != 0) {
    ExpertMoment(target, expert, &moment);
    weighed.Resize(rows * cols);
    Gemm(Trans::kNo, Trans::kNo, rows, cols, cols, m, cols, moment.data(), cols,
         0.0f, weighed.data(), cols);
    ms = weighed.data();
  }
  Buffer<double> gram(rows * rows);
  Buffer<double> values(rows);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < cols; ++k) {
        sum += static_cast<double>(ms[i * cols + k]) * m[j * cols + k];
      }
      gram[i * rows + j] = sum;
    }
  }
  // Ascending eigenvalues; the vectors become rows of the column-major result.
  const int info =
      LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', static_cast<int>(rows),
                     gram.data(), static_cast<int>(rows), values.data());
  CheckLapackMemory(info);
  if (info != 0) {
    Fail(ErrorKind::kInternal, "the SVD of expert {} failed ({})", expert,
         info);
  }
  for (int64_t k = 0; k < rank; ++k) {
    const double* vector = gram.data() + (rows - 1 - k) * rows;
    for (int64_t i = 0; i < rows; ++i) {
      u[i * rank + k] = static_cast<float>(vector[i]);
    }
  }
}

// product = base + U V of every expert, U V the best approximation of W_e -
// base. An empty base is zero.
Buffer<float> FitDeltas(const FitTarget& target, const Buffer<float>& base,
                        int64_t rank, DType stored) {
  PrepareBlas();
  const int64_t rows = target.rows;
  const int64_t cols = target.cols;
  const int64_t size = target.matrix_size();
  Buffer<float> product(target.experts * size);
  ParallelFor(target.experts, [&](int64_t e) {
    float* out = product.data() + e * size;
    Buffer<float> delta(size);
    std::copy_n(target.matrix(e), size, delta.data());
    for (int64_t i = 0; i < base.size(); ++i) delta[i] -= base[i];
    Buffer<float> u(rows * rank);
    Buffer<float> v(rank * cols);
    LeadingVectors(target, e, delta.data(), rank, u.data());
    Gemm(Trans::kYes, Trans::kNo, rank, cols, rows, u.data(), rank,
         delta.data(), cols, 0.0f, v.data(), cols);
    RoundTo(stored, &u);
    RoundTo(stored, &v);
    std::fill_n(out, size, 0.0f);
    std::copy(base.begin(), base.end(), out);
    Gemm(Trans::kNo, Trans::kNo, rows, cols, rank, u.data(), rank, v.data(),
         cols, 1.0f, out, cols);
  });
  return product;
}

Buffer<float> FitSvd(const FitTarget& target, int64_t, int64_t rank,
                     DType stored) {
  return FitDeltas(target, {}, rank, stored);
}

Buffer<float> FitD2Moe(const FitTarget& target, int64_t, int64_t rank,
                       DType stored) {
  Buffer<float> base(target.matrix_size());
  double total = 0;
  for (int64_t e = 0; e < target.experts; ++e) total += target.importance_of(e);
  constexpr int64_t kGrain = 4096;
  ParallelRanges(base.size(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      double sum = 0;
      for (int64_t e = 0; e < target.experts; ++e) {
        sum += target.importance_of(e) * target.matrix(e)[i];
      }
      base[i] = static_cast<float>(sum / total);
    }
  });
  RoundTo(stored, &base);
  return FitDeltas(target, base, rank, stored);
}

Buffer<float> FitMolae(const FitTarget& target, int64_t num_bases, int64_t rank,
                       DType stored) {
  internal::SvdStart svd =
      internal::GroupedSvd(target.weights.data(), target.experts, target.rows,
                           target.cols, num_bases, rank);
  RoundTo(stored, &svd.a);
  RoundTo(stored, &svd.bases);
  Buffer<float> product(target.experts * target.matrix_size());
  ParallelFor(target.experts, [&](int64_t e) {
    const auto group = svd.group[static_cast<size_t>(e)];
    Gemm(Trans::kNo, Trans::kNo, target.rows, target.cols, rank,
         svd.a.data() + e * target.rows * rank, rank,
         svd.bases.data() + group * rank * target.cols, target.cols, 0.0f,
         product.data() + e * target.matrix_size(), target.cols);
  });
  return product;
}

using Shape = BaselineShape;

int64_t Nothing(const Shape&) { return 0; }
int64_t OneMatrix(const Shape& s) { return s.rows * s.cols; }
int64_t OwnFactors(const Shape& s) { return s.experts * (s.rows + s.cols); }
int64_t SharedFactors(const Shape& s) {
  return s.experts * s.rows + s.num_bases * s.cols;
}
int64_t FullRank(const Shape& s) { return std::min(s.rows, s.cols); }
int64_t FullGroupRank(const Shape& s) {
  return std::min(s.experts / s.num_bases * s.rows, s.cols);
}

constexpr Baseline kBaselines[] = {
    {"svd", true, Nothing, OwnFactors, FullRank, FitSvd},
    {"molae", false, Nothing, SharedFactors, FullGroupRank, FitMolae},
    {"d2moe", true, OneMatrix, OwnFactors, FullRank, FitD2Moe},
};

}  // namespace

std::span<const Baseline> Baselines() { return kBaselines; }

const Baseline* FindBaseline(std::string_view name) {
  for (const Baseline& baseline : kBaselines) {
    if (name == baseline.name) return &baseline;
  }
  return nullptr;
}

int64_t RankForBudget(const Baseline& baseline, const BaselineShape& shape,
                      int64_t budget) {
  const int64_t rank =
      std::min((budget - baseline.fixed(shape)) / baseline.each(shape),
               baseline.max_rank(shape));
  if (rank < 1) {
    Fail(ErrorKind::kUserInput,
         "method {}: rank 1 takes {} numbers for the matrices of a layer, more "
         "than the {} that are allowed; keep a larger share",
         baseline.name, FormatCount(baseline.Parameters(shape, 1)),
         FormatCount(budget));
  }
  return rank;
}

}  // namespace mobe
