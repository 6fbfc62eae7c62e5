#include "fit/whiten.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/diagonal.h"
#include "kernels/blas.h"
#include "kernels/gemm.h"

namespace mobe {
namespace {

// Eigenvalues below this share of the largest are taken as that: the rows of
// bases that belong to them would vanish.
constexpr float kLeastEigenvalue = 1e-4f;

// sum_e A_e^T A_e: its eigenvectors as rows, and the roots of its eigenvalues.
struct Spectrum {
  Buffer<float> vectors;  // [rank, rank]
  Buffer<float> roots;    // [rank]
};

Spectrum SpectrumOf(const Factors& factors) {
  const int64_t rank = factors.rank;
  const int64_t rows = factors.a.size() / rank;  // of all experts
  Spectrum spectrum;
  spectrum.vectors.Resize(rank * rank);
  spectrum.roots.Resize(rank);
  constexpr int64_t kGrain = 64;
  ParallelRanges(rank, kGrain, [&](int64_t begin, int64_t end) {
    Gemm(Trans::kYes, Trans::kNo, end - begin, rank, rows,
         factors.a.data() + begin, rank, factors.a.data(), rank, 0.0f,
         spectrum.vectors.data() + begin * rank, rank);
  });
  // What LAPACK stores by columns are rows here.
  const int info = LAPACKE_ssyevd(
      LAPACK_COL_MAJOR, 'V', 'U', static_cast<int>(rank),
      spectrum.vectors.data(), static_cast<int>(rank), spectrum.roots.data());
  CheckLapackMemory(info);
  if (info != 0) {
    Fail(ErrorKind::kInternal,
         "the eigenvalues of A's columns can't be found ({}); try another "
         "--seed",
         info);
  }
  const float most = spectrum.roots[rank - 1];
  for (float& root : spectrum.roots) {
    root = std::sqrt(std::max(root, kLeastEigenvalue * most));
  }
  return spectrum;
}

double MeanSquare(const Buffer<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return sum / static_cast<double>(values.size());
}

}  // namespace

void WhitenA(int64_t experts, int64_t rows, int64_t cols, Factors* factors) {
  if (factors->activation != Activation::kIdentity) return;
  const int64_t rank = factors->rank;
  PrepareBlas();
  const Spectrum spectrum = SpectrumOf(*factors);
  if (!(spectrum.roots[rank - 1] > 0)) return;  // A is zero
  const double before = MeanSquare(factors->bases);

  // T = roots V, V's rows the eigenvectors; T^-1 = V^T / roots.
  const bool low_rank = factors->basis_rank > 0;
  Buffer<float>& bases = low_rank ? factors->bases_left : factors->bases;
  const int64_t width = low_rank ? factors->basis_rank : cols;
  ParallelFor(factors->num_bases, [&](int64_t i) {
    thread_local Buffer<float> turned;
    turned.Resize(rank * width);
    float* basis = bases.data() + i * rank * width;
    Gemm(Trans::kNo, Trans::kNo, rank, width, rank, spectrum.vectors.data(),
         rank, basis, width, 0.0f, turned.data(), width);
    for (int64_t r = 0; r < rank; ++r) {
      for (int64_t j = 0; j < width; ++j) {
        basis[r * width + j] = spectrum.roots[r] * turned[r * width + j];
      }
    }
  });
  MultiplyBases(cols, factors);
  const double after = MeanSquare(factors->bases);
  const auto scale =
      static_cast<float>(after > 0 ? std::sqrt(before / after) : 1);
  for (float& value : bases) value *= scale;
  MultiplyBases(cols, factors);

  ParallelFor(experts, [&](int64_t e) {
    thread_local Buffer<float> turned;
    turned.Resize(rows * rank);
    float* a = factors->a.data() + e * rows * rank;
    Gemm(Trans::kNo, Trans::kYes, rows, rank, rank, a, rank,
         spectrum.vectors.data(), rank, 0.0f, turned.data(), rank);
    for (int64_t i = 0; i < rows * rank; ++i) {
      a[i] = turned[i] / (scale * spectrum.roots[i % rank]);
    }
  });
}

}  // namespace mobe
