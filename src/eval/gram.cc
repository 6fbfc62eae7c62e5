#include "eval/gram.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/blas.h"

namespace mobe {

Gram::Gram(int64_t size) : size_(size), upper_(size * size) {
  std::fill(upper_.begin(), upper_.end(), 0.0f);
}

void Gram::Add(const float* rows, int64_t count) {
  PrepareBlas();
  constexpr int64_t kBlock = 128;
  ParallelRanges(size_, kBlock, [&](int64_t begin, int64_t end) {
    // The block's rows of the upper triangle.
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans,
                static_cast<int>(end - begin), static_cast<int>(size_ - begin),
                static_cast<int>(count), 1, rows + begin,
                static_cast<int>(size_), rows + begin, static_cast<int>(size_),
                1, upper_.data() + begin * size_ + begin,
                static_cast<int>(size_));
  });
}

Energy Gram::SingularValueEnergy() {
  PrepareBlas();
  std::vector<float> values(size_);
  const int info =
      LAPACKE_ssyevd(LAPACK_ROW_MAJOR, 'N', 'U', static_cast<int>(size_),
                     upper_.data(), static_cast<int>(size_), values.data());
  CheckLapackMemory(info);
  if (info != 0) {
    Fail(ErrorKind::kInternal, "the eigenvalues of a Gram matrix failed ({})",
         info);
  }
  Energy energy;
  double sum = 0;
  // Not by a view of <ranges>, which clang 14 can't compile.
  for (auto value = values.rbegin(); value != values.rend(); ++value) {
    sum += std::max<double>(*value, 0);  // rounding may leave one below zero
    energy.push_back(sum);
  }
  for (double& share : energy) share = sum > 0 ? share / sum : 0;
  return energy;
}

}  // namespace mobe
