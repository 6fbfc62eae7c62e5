#include "fit/weighted_solve.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/diagonal.h"
#include "kernels/blas.h"
#include "kernels/gemm.h"

namespace mobe {
namespace {

// An expert's moment without the floor.
void MixMoments(const FitTarget& target, int64_t expert, Buffer<float>* s) {
  const int64_t d = target.cols;
  if (target.moment.size() == 0) {
    SetToIdentity(d, s);
    return;
  }
  s->CopyFrom(target.moment);
  if (target.inputs.empty()) return;
  thread_local Buffer<float> own;
  thread_local Buffer<float> x;
  own.Resize(d * d);
  std::fill(own.begin(), own.end(), 0.0f);
  const RoutedInputs& inputs = target.inputs;
  const auto e = static_cast<size_t>(expert);
  for (int64_t begin = inputs.starts[e]; begin < inputs.starts[e + 1];
       begin += kGatherTokens) {
    const int64_t count = std::min(kGatherTokens, inputs.starts[e + 1] - begin);
    x.Resize(count * d);
    GatherInputs(inputs, inputs.tokens.data() + begin, count, d, x.data());
    for (int64_t i = 0; i < count; ++i) {
      const float weight = inputs.weights[static_cast<size_t>(begin + i)];
      for (int64_t j = 0; j < d; ++j) x[i * d + j] *= weight;
    }
    Gemm(Trans::kYes, Trans::kNo, d, d, count, x.data(), d, x.data(), d, 1.0f,
         own.data(), d);
  }
  if (!ScaleToMeanOne(d + 1, &own)) return;  // no token chose it
  const float shared = SharedPart(d, inputs.starts[e + 1] - inputs.starts[e]);
  for (int64_t i = 0; i < d * d; ++i) {
    (*s)[i] = shared * (*s)[i] + (1 - shared) * own[i];
  }
}

}  // namespace

double WeighedSquare(const float* m, int64_t rows, int64_t cols,
                     const Buffer<float>& s, Buffer<float>* product) {
  product->Resize(rows * cols);
  Gemm(Trans::kNo, Trans::kNo, rows, cols, cols, m, cols, s.data(), cols, 0.0f,
       product->data(), cols);
  double sum = 0;
  for (int64_t i = 0; i < rows * cols; ++i) {
    sum += static_cast<double>((*product)[i]) * m[i];
  }
  return sum;
}

void ExpertMoment(const FitTarget& target, int64_t expert, Buffer<float>* s) {
  MixMoments(target, expert, s);
  AddFloor(target.cols, s);
}

void MomentOfMix(const Buffer<float>& mix, int64_t rank,
                 const Buffer<float>& moment, int64_t cols,
                 Buffer<float>* mix_s, Buffer<float>* gram) {
  mix_s->Resize(rank * cols);
  gram->Resize(rank * rank);
  Gemm(Trans::kNo, Trans::kNo, rank, cols, cols, mix.data(), cols,
       moment.data(), cols, 0.0f, mix_s->data(), cols);
  Gemm(Trans::kNo, Trans::kYes, rank, rank, cols, mix_s->data(), cols,
       mix.data(), cols, 0.0f, gram->data(), rank);
}

void SolveLeft(const float* w, int64_t rows, const Buffer<float>& mix,
               int64_t rank, const Buffer<float>& moment, int64_t cols,
               SolveScratch* scratch, float* a) {
  SolveScratch& s = *scratch;
  MomentOfMix(mix, rank, moment, cols, &s.mix_s, &s.gram);
  s.cross.Resize(rows * rank);
  Gemm(Trans::kNo, Trans::kYes, rows, rank, cols, w, cols, s.mix_s.data(), cols,
       0.0f, s.cross.data(), rank);
  // In double: S spans more orders of magnitude than float32 has.
  s.gram64.Resize(rank * rank);
  s.cross64.Resize(rows * rank);
  int info = 1;
  // Where rows of N are nearly dependent, rounding has made G indefinite: it
  // takes a larger ridge.
  for (double ridges = 1; info > 0 && ridges <= 1e4; ridges *= 10) {
    std::copy(s.gram.begin(), s.gram.end(), s.gram64.begin());
    std::copy(s.cross.begin(), s.cross.end(), s.cross64.begin());
    AddOwnRidge(rank, s.gram64.data(), ridges);
    // Row-major A is column-major A^T: G A^T = (W S N^T)^T is solved in place.
    info = LAPACKE_dposv(LAPACK_COL_MAJOR, 'L', static_cast<int>(rank),
                         static_cast<int>(rows), s.gram64.data(),
                         static_cast<int>(rank), s.cross64.data(),
                         static_cast<int>(rank));
    CheckLapackMemory(info);
  }
  if (info != 0) {
    Fail(ErrorKind::kInternal,
         "the weighted normal equations of an expert can't be solved ({}); try "
         "another --seed",
         info);
  }
  for (int64_t i = 0; i < rows * rank; ++i) {
    a[i] = static_cast<float>(s.cross64[i]);
  }
}

void SolveWeightedA(const FitTarget& target, Factors* factors) {
  PrepareBlas();
  const int64_t size = target.rows * factors->rank;
  factors->a.Resize(target.experts * size);
  struct Scratch {
    Buffer<float> moment, mix;
    SolveScratch solve;
  };
  std::vector<Scratch> scratch(static_cast<size_t>(Threads()));
  ParallelFor(target.experts, [&](int64_t e) {
    Scratch& s = scratch[static_cast<size_t>(ThreadIndex())];
    ExpertMoment(target, e, &s.moment);
    internal::MixExpert(*factors, e, target.cols, &s.mix);
    SolveLeft(target.matrix(e), target.rows, s.mix, factors->rank, s.moment,
              target.cols, &s.solve, factors->a.data() + e * size);
  });
}

double MeasureWeighted(const FitTarget& target, const Factors& factors) {
  std::vector<double> errors(static_cast<size_t>(target.experts));
  std::vector<double> norms(static_cast<size_t>(target.experts));
  ParallelFor(target.experts, [&](int64_t e) {
    thread_local Buffer<float> moment;
    thread_local Buffer<float> product;
    thread_local Buffer<float> mix;
    thread_local Buffer<float> weighed;
    ExpertMoment(target, e, &moment);
    product.Resize(target.matrix_size());
    BuildExpert(factors, e, target.rows, target.cols, &mix, product.data());
    Kernels().subtract(product.data(), 1, target.matrix(e),
                       target.matrix_size(), product.data());
    const double weight = target.importance_of(e);
    errors[static_cast<size_t>(e)] =
        weight * WeighedSquare(product.data(), target.rows, target.cols, moment,
                               &weighed);
    norms[static_cast<size_t>(e)] =
        weight * WeighedSquare(target.matrix(e), target.rows, target.cols,
                               moment, &weighed);
  });
  double error = 0;
  double norm = 0;
  for (size_t e = 0; e < errors.size(); ++e) {
    error += errors[e];
    norm += norms[e];
  }
  return norm > 0 ? error / norm : 0;
}

}  // namespace mobe
