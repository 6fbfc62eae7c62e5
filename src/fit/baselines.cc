// The baselines: method.h says what each follows, and what it leaves out.
#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/device.h"
#include "fit/method.h"
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
Buffer<float> AddDeltas(const FitTarget& target, const Buffer<float>& base,
                        const FitOptions& options) {
  PrepareBlas();
  const int64_t rank = options.rank;
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
    RoundTo(options.stored, &u);
    RoundTo(options.stored, &v);
    std::fill_n(out, size, 0.0f);
    std::copy(base.begin(), base.end(), out);
    Gemm(Trans::kNo, Trans::kNo, rows, cols, rank, u.data(), rank, v.data(),
         cols, 1.0f, out, cols);
  });
  return product;
}

Buffer<float> Svd(const FitTarget& target, const FitOptions& options) {
  return AddDeltas(target, {}, options);
}

Buffer<float> D2Moe(const FitTarget& target, const FitOptions& options) {
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
  RoundTo(options.stored, &base);
  return AddDeltas(target, base, options);
}

Buffer<float> Molae(const FitTarget& target, const FitOptions& options) {
  const int64_t rank = options.rank;
  internal::SvdStart svd =
      internal::GroupedSvd(target.weights.data(), target.experts, target.rows,
                           target.cols, options.num_bases, rank);
  RoundTo(options.stored, &svd.a);
  RoundTo(options.stored, &svd.bases);
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

int64_t OwnFactors(const FitShape& s) {
  return s.experts * (s.rows + s.cols) * s.rank;
}
int64_t BaseAndOwnFactors(const FitShape& s) {
  return s.rows * s.cols + OwnFactors(s);
}
int64_t SharedFactors(const FitShape& s) {
  return (s.experts * s.rows + s.num_bases * s.cols) * s.rank;
}

int64_t FullRank(const FitShape& s) { return std::min(s.rows, s.cols); }
int64_t FullGroupRank(const FitShape& s) {
  return std::min(s.experts / s.num_bases * s.rows, s.cols);
}

FitParts DeltaOperations(const FitShape& s) {
  const auto n = static_cast<double>(s.experts);
  const auto p = static_cast<double>(s.rows);
  const auto d = static_cast<double>(s.cols);
  const auto r = static_cast<double>(s.rank);
  // M M^T; its eigenvectors (Golub and Van Loan: 9 p^3); V, and U V.
  FitParts result;
  result.fixed = n * (p * p * d + 9 * p * p * p + 4 * p * r * d);
  // The moment of what each expert read, and M by it.
  if (s.pairs > 0) {
    result.fixed += static_cast<double>(s.pairs) * d * d + 2 * n * p * d * d;
  }
  return result;
}

FitParts MolaeOperations(const FitShape& s) {
  return {.fixed = internal::GroupedSvdOperations(s) +
                   2.0 * static_cast<double>(s.experts * s.rows * s.rank) *
                       static_cast<double>(s.cols)};
}

// The target, what it comes to, and as one more matrix the base.
int64_t TargetAndProduct(const FitShape& s) {
  return (2 * s.experts + 1) * s.rows * s.cols;
}

FitMemory DeltaMemory(const FitShape& s, const FitDevice&) {
  // Of a thread: the delta, U and V, and in double M M^T and what LAPACK works
  // on; calibrated, the moment and M by it.
  int64_t each =
      s.rows * s.cols + s.rank * (s.rows + s.cols) + 6 * s.rows * s.rows;
  if (s.pairs > 0) each += s.cols * s.cols + s.rows * s.cols;
  return {.host = 4 * (TargetAndProduct(s) + Threads() * each)};
}

FitMemory MolaeMemory(const FitShape& s, const FitDevice&) {
  return {.host = 4 * (TargetAndProduct(s) + SharedFactors(s) +
                       internal::GroupedSvdNumbers(s))};
}

}  // namespace

const Method kSvd = {.name = "svd",
                     .calibrates = true,
                     .approximate = Svd,
                     .numbers = OwnFactors,
                     .max_rank = FullRank,
                     .operations = DeltaOperations,
                     .memory = DeltaMemory};

const Method kMolae = {.name = "molae",
                       .approximate = Molae,
                       .numbers = SharedFactors,
                       .max_rank = FullGroupRank,
                       .operations = MolaeOperations,
                       .memory = MolaeMemory};

const Method kD2Moe = {.name = "d2moe",
                       .calibrates = true,
                       .approximate = D2Moe,
                       .numbers = BaseAndOwnFactors,
                       .max_rank = FullRank,
                       .operations = DeltaOperations,
                       .memory = DeltaMemory};

}  // namespace mobe
