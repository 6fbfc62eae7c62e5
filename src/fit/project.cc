#include "fit/project.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/blas.h"
#include "kernels/gemm.h"

namespace mobe::internal {
namespace {

// The form narrows between these shares of the passes, in that many steps of
// the same size. All at once is worse (docs/fit.md), later as well.
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

Projection::Projection(const FitTarget& target, const FitOptions& options)
    : experts_(target.experts),
      cols_(target.cols),
      num_bases_(options.num_bases),
      rank_(options.rank),
      last_alphas_(options.max_alphas == 0 ? options.num_bases
                                           : options.max_alphas),
      last_basis_rank_(options.basis_rank == 0 ? options.rank
                                               : options.basis_rank),
      alphas_(options.num_bases),
      basis_rank_(options.rank) {}

void Projection::Tangent(Buffer<float>* d_bases) const {
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

void Projection::Follow(Factors* factors) {
  if (basis_rank_ == rank_) return;
  ParallelFor(num_bases_, [&](int64_t i) {
    Retract(i, factors->bases.data() + i * rank_ * cols_);
  });
}

bool Projection::Apply(double done, Factors* factors) {
  const bool narrower = Narrow(done, factors);
  Follow(factors);
  for (size_t i = 0; i < used_.size(); ++i) {
    if (!used_[i]) factors->alpha[static_cast<int64_t>(i)] = 0;
  }
  return narrower;
}

bool Projection::Narrow(double done, Factors* factors) {
  const int64_t alphas = Allowed(done, num_bases_, last_alphas_);
  const int64_t k = Allowed(done, rank_, last_basis_rank_);
  const bool narrower = alphas < alphas_ || k < basis_rank_;
  if (k < basis_rank_) {
    basis_rank_ = k;
    left_.Resize(num_bases_ * k * rank_);
    right_.Resize(num_bases_ * k * cols_);
    ParallelFor(num_bases_, [&](int64_t i) {
      float* v = right_.data() + i * k * cols_;
      SplitBasis(factors->bases.data() + i * rank_ * cols_, rank_, cols_, k,
                 left_.data() + i * k * rank_, v);
      Orthonormalize(k, cols_, v);
    });
  }
  if (alphas < alphas_) {
    alphas_ = alphas;
    SparsifyAlpha(experts_, cols_, alphas, factors);
    used_.resize(static_cast<size_t>(factors->alpha.size()));
    std::transform(factors->alpha.begin(), factors->alpha.end(), used_.begin(),
                   [](float alpha) { return alpha != 0; });
  }
  return narrower;
}

// B becomes its projection on the columns of B V^T, and U and V follow.
void Projection::Retract(int64_t basis, float* b) {
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

}  // namespace mobe::internal
