#include "mobe/fit_metric.h"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/kernels.h"

namespace mobe::internal {
namespace {

// Passes between two looks at the experts, after the first few.
const int64_t kEvery = getenv("EVERY") ? atoi(getenv("EVERY")) : 4;
const int64_t kSettled = getenv("SETTLED") ? atoi(getenv("SETTLED")) : 60;
// Experts that one look takes in, and the weight of a look in the means.
constexpr int64_t kLook = 8;
const float kRenew = getenv("RENEW") ? atof(getenv("RENEW")) : .5;
// Damping: of bases and ranks relative to the mean of the diagonal, of columns
// absolute (P is a projection where there is no moment, and has a mean diagonal
// of at most 1 with one).
constexpr double kDamping = 0.03;
constexpr double kColumnDamping = 0.1;

constexpr int64_t kGrain = 64;  // rows of a product that run together

double MeanDiagonal(int64_t size, const Buffer<float>& matrix) {
  double trace = 0;
  for (int64_t k = 0; k < size; ++k) trace += matrix[k * size + k];
  return trace / static_cast<double>(size);
}

// matrix = (matrix + damping I)^-1 for a symmetric matrix [size, size].
void InvertDamped(int64_t size, double damping, Buffer<float>* matrix) {
  for (int64_t k = 0; k < size; ++k) {
    (*matrix)[k * size + k] += static_cast<float>(damping);
  }
  const int order = static_cast<int>(size);
  int info = LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'L', order, matrix->data(),
                                 order);
  if (info == 0) {
    info = LAPACKE_spotri_work(LAPACK_COL_MAJOR, 'L', order, matrix->data(),
                               order);
  }
  if (info != 0) {
    Fail(ErrorKind::kInternal, "the metric of the fit is singular ({})", info);
  }
  // LAPACK's lower triangle is the upper one here.
  for (int64_t r = 1; r < size; ++r) {
    for (int64_t c = 0; c < r; ++c) {
      (*matrix)[r * size + c] = (*matrix)[c * size + r];
    }
  }
}

// mean = (1 - kRenew) mean + kRenew (new), where row_sum(begin, end, out) gives
// rows of the new one; all of it at the first time.
template <class RowsFn>
void Fade(int64_t size, bool first, const RowsFn& rows, Buffer<float>* mean) {
  const float renew = first ? 1.0f : kRenew;
  ParallelRanges(size, kGrain, [&](int64_t begin, int64_t end) {
    Buffer<float> fresh((end - begin) * size);
    rows(begin, end, fresh.data());
    float* old = mean->data() + begin * size;
    for (int64_t i = 0; i < fresh.size(); ++i) {
      old[i] = first ? fresh[i] : (1 - renew) * old[i] + renew * fresh[i];
    }
  });
}

}  // namespace

FitMetric::FitMetric(const FitTarget& target, const FitOptions& options,
                     Precision precision)
    : target_(target),
      num_bases_(options.num_bases),
      rank_(options.rank),
      precision_(precision),
      stride_((target.experts + kLook - 1) / kLook),
      seen_((target.experts + stride_ - 1) / stride_) {
  ranks_.size = rank_;
  columns_.size = target.cols;
  for (Factor* factor : {&ranks_, &columns_}) {
    factor->mean.Resize(factor->size * factor->size);
  }
}

void FitMetric::Begin(int64_t pass) {
  pass_ = pass;
  for (Seen& seen : seen_) seen.importance = 0;
}

bool FitMetric::Wants(int64_t expert) const {
  if (pass_ > kSettled && pass_ % kEvery != 0) return false;
  const int64_t look = pass_ > kSettled ? pass_ / kEvery : pass_;
  return (expert + look) % stride_ == 0;
}

void FitMetric::Add(int64_t expert, float importance, Activation activation,
                    const float* mix, const float* weighted,
                    const float* factor, const float* a) {
  const int64_t cols = target_.cols;
  Seen& seen = seen_[expert / stride_];
  seen.importance = importance;
  // In column-major order N S is its transpose [cols, rank], and Q^T = (N S)^T
  // L^-T.
  seen.space.Resize(rank_ * cols);
  std::copy_n(weighted, rank_ * cols, seen.space.data());
  cblas_strsm(CblasColMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit,
              static_cast<int>(cols), static_cast<int>(rank_), 1.0f, factor,
              static_cast<int>(rank_), seen.space.data(),
              static_cast<int>(cols));
  thread_local Buffer<float> slope;
  thread_local Buffer<float> slopes;
  slope.Resize(rank_ * cols);
  slopes.Resize(rank_ * rank_);
  std::fill(slope.begin(), slope.end(), 1.0f);
  Kernels().activate_backward(activation, mix, slope.data(), slope.size(),
                              slope.data());
  Gemm(Trans::kNo, Trans::kYes, rank_, rank_, cols, slope.data(), cols,
       slope.data(), cols, 0.0f, slopes.data(), rank_);
  seen.ranks.Resize(rank_ * rank_);
  Gemm(Trans::kYes, Trans::kNo, rank_, rank_, target_.rows, a, rank_, a, rank_,
       0.0f, seen.ranks.data(), rank_);
  const float scale = 1 / static_cast<float>(cols);
  for (int64_t i = 0; i < rank_ * rank_; ++i) {
    seen.ranks[i] *= scale * slopes[i];
  }
}

void FitMetric::End() {
  float total = 0;
  for (const Seen& seen : seen_) total += seen.importance;
  if (total == 0) return;
  const bool first = pass_ == 1;
  const int64_t cols = target_.cols;
  Fade(
      cols, first,
      [&](int64_t begin, int64_t end, float* out) {
        // S or the identity, less the mean of Q^T Q.
        const int64_t count = (end - begin) * cols;
        if (target_.moment.size() > 0) {
          std::copy_n(target_.moment.data() + begin * cols, count, out);
        } else {
          std::fill_n(out, count, 0.0f);
          for (int64_t k = begin; k < end; ++k) {
            out[(k - begin) * cols + k] = 1;
          }
        }
        for (const Seen& seen : seen_) {
          if (seen.importance == 0) continue;
          const float* q = seen.space.data();
          cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans,
                      static_cast<int>(end - begin), static_cast<int>(cols),
                      static_cast<int>(rank_), -seen.importance / total,
                      q + begin, static_cast<int>(cols), q,
                      static_cast<int>(cols), 1.0f, out,
                      static_cast<int>(cols));
        }
      },
      &columns_.mean);
  Fade(
      rank_, first,
      [&](int64_t begin, int64_t end, float* out) {
        std::fill_n(out, (end - begin) * rank_, 0.0f);
        for (const Seen& seen : seen_) {
          if (seen.importance == 0) continue;
          cblas_saxpy(static_cast<int>((end - begin) * rank_),
                      seen.importance / total,
                      seen.ranks.data() + begin * rank_, 1, out, 1);
        }
      },
      &ranks_.mean);
  Invert(std::max(kDamping * MeanDiagonal(rank_, ranks_.mean), 1e-30), &ranks_);
  Invert(kColumnDamping, &columns_);
}

void FitMetric::Invert(double damping, Factor* factor) {
  factor->inverse.CopyFrom(factor->mean);
  InvertDamped(factor->size, damping, &factor->inverse);
  if (precision_ == Precision::kFloat32 || getenv("MF32")) return;
  factor->inverse_half.Resize(factor->inverse.size());
  Kernels().to_bfloat16(factor->inverse.data(), factor->inverse.size(),
                        factor->inverse_half.data());
}

void FitMetric::Apply(const Buffer<float>& alpha,
                      Buffer<float>* gradient) const {
  const int64_t m = num_bases_;
  const int64_t cols = target_.cols;
  const int64_t size = rank_ * cols;
  Buffer<float> bases(m * m);
  Gemm(Trans::kYes, Trans::kNo, m, m, target_.experts, alpha.data(), m,
       alpha.data(), m, 0.0f, bases.data(), m);
  InvertDamped(m, std::max(kDamping * MeanDiagonal(m, bases), 1e-30), &bases);
  constexpr int64_t kMixGrain = 8192;
  ParallelRanges(size, kMixGrain, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> old;
    const int64_t count = end - begin;
    old.Resize(m * count);
    for (int64_t i = 0; i < m; ++i) {
      std::copy_n(gradient->data() + i * size + begin, count,
                  old.data() + i * count);
    }
    Gemm(Trans::kNo, Trans::kNo, m, count, m, bases.data(), m, old.data(),
         count, 0.0f, gradient->data() + begin, size);
  });
  ParallelFor(m, [&](int64_t i) {
    thread_local Buffer<float> between;
    thread_local Buffer<BFloat16> half;
    float* d = gradient->data() + i * size;
    between.Resize(size);
    if (precision_ == Precision::kFloat32 || getenv("MF32")) {
      Gemm(Trans::kNo, Trans::kNo, rank_, cols, rank_, ranks_.inverse.data(),
           rank_, d, cols, 0.0f, between.data(), cols);
      Gemm(Trans::kNo, Trans::kNo, rank_, cols, cols, between.data(), cols,
           columns_.inverse.data(), cols, 0.0f, d, cols);
      return;
    }
    half.Resize(size);
    Kernels().to_bfloat16(d, size, half.data());
    GemmBFloat16(Trans::kNo, Trans::kNo, rank_, cols, rank_,
                 ranks_.inverse_half.data(), rank_, half.data(), cols,
                 between.data(), cols);
    Kernels().to_bfloat16(between.data(), size, half.data());
    GemmBFloat16(Trans::kNo, Trans::kNo, rank_, cols, cols, half.data(), cols,
                 columns_.inverse_half.data(), cols, d, cols);
  });
}

}  // namespace mobe::internal
