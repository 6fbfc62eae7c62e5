#include "fit/whiten.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/weighted_solve.h"
#include "kernels/blas.h"
#include "kernels/gemm.h"

namespace mobe {
namespace {

// Eigenvalues below this share of the largest are taken as that: the rows of
// bases that belong to them would vanish.
constexpr float kLeastEigenvalue = 1e-4f;

// Eigenvectors of a symmetric matrix as rows, those of the least first, and the
// eigenvalues.
struct Spectrum {
  Buffer<float> vectors;  // [rank, rank]
  Buffer<float> values;   // [rank]
};

Spectrum SpectrumOf(int64_t rank, Buffer<float> matrix) {
  Spectrum spectrum;
  spectrum.vectors = std::move(matrix);
  spectrum.values.Resize(rank);
  // What LAPACK stores by columns are rows here.
  const int info = LAPACKE_ssyevd(
      LAPACK_COL_MAJOR, 'V', 'U', static_cast<int>(rank),
      spectrum.vectors.data(), static_cast<int>(rank), spectrum.values.data());
  CheckLapackMemory(info);
  if (info != 0) {
    Fail(ErrorKind::kInternal,
         "the eigenvalues of A's columns or of bases' rows can't be found "
         "({}); try another --seed",
         info);
  }
  return spectrum;
}

// sum_e A_e^T A_e.
Buffer<float> GramOfA(const Factors& factors) {
  const int64_t rank = factors.rank;
  const int64_t rows = factors.a.size() / rank;  // of all experts
  Buffer<float> gram(rank * rank);
  constexpr int64_t kGrain = 64;
  ParallelRanges(rank, kGrain, [&](int64_t begin, int64_t end) {
    Gemm(Trans::kYes, Trans::kNo, end - begin, rank, rows,
         factors.a.data() + begin, rank, factors.a.data(), rank, 0.0f,
         gram.data() + begin * rank, rank);
  });
  return gram;
}

// sum_e c_e N_e S_e N_e^T, c the importance. Products of a few experts are kept
// before they are added, so that the sum does not depend on threads.
Buffer<float> GramOfMixes(const FitTarget& target, const Factors& factors) {
  const int64_t rank = factors.rank;
  const int64_t d = target.cols;
  Buffer<float> gram(rank * rank);
  std::fill(gram.begin(), gram.end(), 0.0f);
  struct OfExpert {
    Buffer<float> moment, mix, mix_s, product;
  };
  std::vector<OfExpert> few(static_cast<size_t>(Threads()));
  const auto many = static_cast<int64_t>(few.size());
  for (int64_t begin = 0; begin < target.experts; begin += many) {
    const int64_t count = std::min(many, target.experts - begin);
    ParallelFor(count, [&](int64_t i) {
      OfExpert& own = few[static_cast<size_t>(i)];
      ExpertMoment(target, begin + i, &own.moment);
      internal::MixExpert(factors, begin + i, d, &own.mix);
      MomentOfMix(own.mix, rank, own.moment, d, &own.mix_s, &own.product);
    });
    for (int64_t i = 0; i < count; ++i) {
      const auto weight = static_cast<float>(target.importance_of(begin + i));
      const Buffer<float>& product = few[static_cast<size_t>(i)].product;
      for (int64_t k = 0; k < rank * rank; ++k) gram[k] += weight * product[k];
    }
  }
  return gram;
}

double MeanSquare(const Buffer<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return sum / static_cast<double>(values.size());
}

// product [rank, rank] = left op(right), of rank x rank.
Buffer<float> Product(int64_t rank, const Buffer<float>& left, Trans trans,
                      const Buffer<float>& right) {
  Buffer<float> product(rank * rank);
  Gemm(Trans::kNo, trans, rank, rank, rank, left.data(), rank, right.data(),
       rank, 0.0f, product.data(), rank);
  return product;
}

}  // namespace

void WhitenA(const FitTarget& target, Factors* factors) {
  if (factors->activation != Activation::kIdentity) return;
  const int64_t rank = factors->rank;
  PrepareBlas();
  // The first turn: roots V, V's rows the eigenvectors; its inverse is
  // V^T / roots.
  const Spectrum own = SpectrumOf(rank, GramOfA(*factors));
  const float most = own.values[rank - 1];
  if (!(most > 0)) return;                             // A is zero
  Buffer<float> turn(rank * rank), back(rank * rank);  // T; T^-1, transposed
  for (int64_t r = 0; r < rank; ++r) {
    const float root =
        std::sqrt(std::max(own.values[r], kLeastEigenvalue * most));
    for (int64_t j = 0; j < rank; ++j) {
      turn[r * rank + j] = root * own.vectors[r * rank + j];
      back[r * rank + j] = own.vectors[r * rank + j] / root;
    }
  }
  // The second: eigenvectors of what the turned bases read, largest first.
  const Spectrum mixes = SpectrumOf(
      rank,
      Product(rank, turn, Trans::kNo,
              Product(rank, GramOfMixes(target, *factors), Trans::kYes, turn)));
  Buffer<float> falling(rank * rank);
  for (int64_t r = 0; r < rank; ++r) {
    std::copy_n(mixes.vectors.data() + (rank - 1 - r) * rank, rank,
                falling.data() + r * rank);
  }
  turn = Product(rank, falling, Trans::kNo, turn);
  back = Product(rank, falling, Trans::kNo, back);

  const double before = MeanSquare(factors->bases);
  const bool low_rank = factors->basis_rank > 0;
  Buffer<float>& bases = low_rank ? factors->bases_left : factors->bases;
  const int64_t width = low_rank ? factors->basis_rank : target.cols;
  ParallelFor(factors->num_bases, [&](int64_t i) {
    thread_local Buffer<float> turned;
    turned.Resize(rank * width);
    float* basis = bases.data() + i * rank * width;
    Gemm(Trans::kNo, Trans::kNo, rank, width, rank, turn.data(), rank, basis,
         width, 0.0f, turned.data(), width);
    std::copy(turned.begin(), turned.end(), basis);
  });
  MultiplyBases(target.cols, factors);
  const double after = MeanSquare(factors->bases);
  const auto scale =
      static_cast<float>(after > 0 ? std::sqrt(before / after) : 1);
  for (float& value : bases) value *= scale;
  MultiplyBases(target.cols, factors);

  ParallelFor(target.experts, [&](int64_t e) {
    thread_local Buffer<float> turned;
    turned.Resize(target.rows * rank);
    float* a = factors->a.data() + e * target.rows * rank;
    Gemm(Trans::kNo, Trans::kYes, target.rows, rank, rank, a, rank, back.data(),
         rank, 0.0f, turned.data(), rank);
    for (int64_t i = 0; i < target.rows * rank; ++i) a[i] = turned[i] / scale;
  });
}

}  // namespace mobe
