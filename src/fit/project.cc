#include "fit/project.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/blas.h"
#include "kernels/gemm.h"

namespace mobe::internal {
namespace {

// The form narrows between these shares of the passes, in that many steps of
// the same size. All at once is worse (docs/lab/fit.md), later as well.
constexpr double kBegin = 0.02;
constexpr double kEnd = 0.2;
constexpr int kSteps = 8;

int64_t Allowed(double done, int64_t all, int64_t kept) {
  const double share = std::clamp((done - kBegin) / (kEnd - kBegin), 0.0, 1.0);
  return all - (all - kept) * static_cast<int64_t>(share * kSteps) / kSteps;
}

// Rows that span the same space; any where there are too few.
void Orthonormalize(int64_t rows, int64_t cols, float* matrix) {
  // Column-major LAPACK sees the rows as columns.
  Buffer<float> tau(rows);
  const int height = static_cast<int>(cols);
  const int width = static_cast<int>(rows);
  int info = LAPACKE_sgeqrf(LAPACK_COL_MAJOR, height, width, matrix, height,
                            tau.data());
  if (info == 0) {
    info = LAPACKE_sorgqr(LAPACK_COL_MAJOR, height, width, width, matrix,
                          height, tau.data());
  }
  CheckLapackMemory(info);
  if (info != 0) {
    Fail(ErrorKind::kInternal, "the QR decomposition of a basis failed ({})",
         info);
  }
}

}  // namespace

Form FormAt(const FitOptions& options, double done) {
  const auto allowed = [done](int64_t all, int64_t kept) {
    return kept == 0 ? all : Allowed(done, all, kept);
  };
  return {allowed(options.num_bases, options.max_alphas),
          allowed(options.rank, options.basis_rank)};
}

void LowRankBases::Tangent(Buffer<float>* d_bases) const {
  const int64_t k = basis_rank_;
  if (k == rank_) return;
  ParallelFor(num_bases_, [&](int64_t i) {
    thread_local Buffer<float> normal;  // (I - U U^T) G (I - V^T V)
    thread_local Buffer<float> product;
    const float* u = left_.data() + i * k * rank_;
    const float* v = right_.data() + i * k * cols_;
    float* g = d_bases->data() + i * rank_ * cols_;
    normal.Resize(rank_ * cols_);
    product.Resize(k * std::max(rank_, cols_));
    std::copy_n(g, normal.size(), normal.data());
    Gemm(Trans::kNo, Trans::kYes, rank_, k, cols_, g, cols_, v, cols_, 0.0f,
         product.data(), k);
    Gemm(Trans::kNo, Trans::kNo, rank_, cols_, k, product.data(), k, v, cols_,
         -1.0f, normal.data(), cols_);
    Gemm(Trans::kNo, Trans::kNo, k, cols_, rank_, u, rank_, normal.data(),
         cols_, 0.0f, product.data(), cols_);
    Gemm(Trans::kYes, Trans::kNo, rank_, cols_, k, u, rank_, product.data(),
         cols_, -1.0f, normal.data(), cols_);
    for (int64_t j = 0; j < normal.size(); ++j) g[j] -= normal[j];
  });
}

void LowRankBases::Retract(Buffer<float>* bases) {
  if (basis_rank_ == rank_) return;
  ParallelFor(num_bases_, [&](int64_t i) {
    Retract(i, bases->data() + i * rank_ * cols_);
  });
}

void LowRankBases::Narrow(int64_t basis_rank, const Buffer<float>& bases) {
  const int64_t k = basis_rank_ = basis_rank;
  left_.Resize(num_bases_ * k * rank_);
  right_.Resize(num_bases_ * k * cols_);
  ParallelFor(num_bases_, [&](int64_t i) {
    float* v = right_.data() + i * k * cols_;
    SplitBasis(bases.data() + i * rank_ * cols_, rank_, cols_, k,
               left_.data() + i * k * rank_, v);
    Orthonormalize(k, cols_, v);
  });
}

// B becomes its projection on the columns of B V^T, and U and V follow.
void LowRankBases::Retract(int64_t basis, float* b) {
  const int64_t k = basis_rank_;
  float* u = left_.data() + basis * k * rank_;
  float* v = right_.data() + basis * k * cols_;
  Gemm(Trans::kNo, Trans::kYes, k, rank_, cols_, v, cols_, b, cols_, 0.0f, u,
       rank_);
  Orthonormalize(k, rank_, u);
  Gemm(Trans::kNo, Trans::kNo, k, cols_, rank_, u, rank_, b, cols_, 0.0f, v,
       cols_);
  Gemm(Trans::kYes, Trans::kNo, rank_, cols_, k, u, rank_, v, cols_, 0.0f, b,
       cols_);
  Orthonormalize(k, cols_, v);
}

void SparseAlpha::Narrow(const std::vector<double>& gram, int64_t num_bases,
                         int64_t alphas, Buffer<float>* alpha) {
  SparsifyAlpha(gram, num_bases, alphas, alpha);
  used_.resize(static_cast<size_t>(alpha->size()));
  std::transform(alpha->begin(), alpha->end(), used_.begin(),
                 [](float value) { return value != 0; });
}

void SparseAlpha::Apply(Buffer<float>* alpha) const {
  for (size_t i = 0; i < used_.size(); ++i) {
    if (!used_[i]) (*alpha)[static_cast<int64_t>(i)] = 0;
  }
}

}  // namespace mobe::internal
