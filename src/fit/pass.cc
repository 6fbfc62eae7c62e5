#include "fit/pass.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/cholesky.h"
#include "fit/diagonal.h"
#include "fit/product.h"
#include "fit/weighted_solve.h"
#include "kernels/blas.h"
#include "kernels/kernels.h"

namespace mobe::internal {
namespace {

constexpr int64_t kSumGrain = 1 << 16;
// Products of fewer multiplications gain nothing by bfloat16.
constexpr int64_t kSmallProduct = 1 << 20;

// Replaces a moment by its H, lower triangular.
void TakeRoot(int64_t size, Buffer<float>* moment) {
  float* const root = moment->data();
  const int order = static_cast<int>(size);
  // Row-major lower is column-major upper.
  const int info =
      LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'U', order, root, order);
  if (info != 0) {
    Fail(ErrorKind::kUserInput,
         "the second moment of the experts' input is not positive definite "
         "({}); calibrate again",
         info);
  }
  for (int64_t row = 0; row < size; ++row) {
    std::fill_n(root + row * size + row + 1, size - row - 1, 0.0f);
  }
}

double Dot(const float* x, const float* y, int64_t count) {
  double sum = 0;
  for (int64_t begin = 0; begin < count; begin += kSumGrain) {
    sum += cblas_sdot(static_cast<int>(std::min(kSumGrain, count - begin)),
                      x + begin, 1, y + begin, 1);
  }
  return sum;
}

}  // namespace

Precision FastestOf(const FitTarget& target, const FitOptions& options) {
  const bool large = target.matrix_size() * options.rank >= kSmallProduct;
  return large && !options.exact && HasFastBFloat16() ? Precision::kBFloat16
                                                      : Precision::kFloat32;
}

FitPass::FitPass(const FitTarget& target, const FitOptions& options,
                 InputNorm norm, int64_t most_roots)
    : target_(target),
      num_bases_(options.num_bases),
      rank_(options.rank),
      basis_size_(options.rank * target.cols),
      chunk_(ChunkOf(target.experts)),
      inverse_scale_(static_cast<float>(1 / target.scale)),
      own_(norm == InputNorm::kExpert && target.moment.size() > 0),
      norms_(target.experts),
      losses_(target.experts),
      mix_(chunk_ * basis_size_),
      scratch_(Threads()) {
  PrepareBlas();
  for (Scratch& s : scratch_) {
    s.active.Resize(basis_size_);
    s.gram.Resize(rank_ * rank_);
    s.a.Resize(rank_ * target.rows);
    s.error.Resize(target.matrix_size());
    if (target.moment.size() > 0) s.weighted.Resize(basis_size_);
  }
  WeighTarget(most_roots);
}

void FitPass::WeighTarget(int64_t most_roots) {
  const int64_t size = target_.matrix_size();
  const int64_t cols = target_.cols;
  const bool moment = target_.moment.size() > 0;
  if (moment) weighted_.Resize(target_.experts * size);
  if (moment && !own_) {
    root_.CopyFrom(target_.moment);
    AddToDiagonal(cols, kBasesFloor, root_.data());
    TakeRoot(cols, &root_);
    root_half_.Resize(root_.size());
    Kernels().to_bfloat16(root_.data(), root_.size(), root_half_.data());
  }
  const int64_t bytes = 4 * target_.experts * cols * cols;
  std::vector<Buffer<float>> roots(
      own_ && bytes <= most_roots ? static_cast<size_t>(target_.experts) : 0);
  ParallelFor(target_.experts, [&](int64_t e) {
    const float* v = target_.matrix(e);
    if (moment) {
      thread_local Buffer<float> memory;
      Buffer<float>& own = roots.empty() ? memory : roots[e];
      Gemm(Trans::kNo, Trans::kNo, target_.rows, cols, cols, v, cols,
           own_ ? OwnRoot(e, &own) : root_.data(), cols, 0.0f,
           weighted_.data() + e * size, cols);
      v = weighted_.data() + e * size;
    }
    norms_[e] = Dot(v, v, size) / (target_.scale * target_.scale);
  });
  own_roots_ = std::move(roots);
}

const float* FitPass::OwnRoot(int64_t expert, Buffer<float>* memory) const {
  if (!own_roots_.empty()) return own_roots_[expert].data();
  ExpertMoment(target_, expert, memory);
  TakeRoot(target_.cols, memory);
  return memory->data();
}

double FitPass::Measure(Precision precision, const Factors& factors) {
  return Run(precision, factors, nullptr, nullptr, nullptr);
}

double FitPass::Differentiate(Precision precision, const Factors& factors,
                              float* d_bases, float* d_alpha,
                              FitMetric* metric) {
  return Run(precision, factors, d_bases, d_alpha, metric);
}

double FitPass::Run(Precision precision, const Factors& factors, float* d_bases,
                    float* d_alpha, FitMetric* metric) {
  for (int64_t first = 0; first < target_.experts; first += chunk_) {
    const int64_t count = std::min(chunk_, target_.experts - first);
    const float* alpha = factors.alpha.data() + first * num_bases_;
    MixBases(alpha, factors.bases.data(), count, num_bases_, basis_size_,
             mix_.data());
    ParallelFor(count, [&](int64_t i) {
      losses_[first + i] = RunExpert(
          precision, factors.activation, first + i, d_bases != nullptr,
          mix_.data() + i * basis_size_, metric, &scratch_[ThreadIndex()]);
    });
    if (d_bases == nullptr) continue;
    MixBackward(alpha, factors.bases.data(), mix_.data(), count, num_bases_,
                basis_size_, first == 0 ? 0.0f : 1.0f, d_bases,
                d_alpha + first * num_bases_);
  }
  return std::accumulate(losses_.begin(), losses_.end(), 0.0) /
         static_cast<double>(target_.weights.size());
}

// Returns the squared error. To differentiate it overwrites the mix by the
// gradient to it.
double FitPass::RunExpert(Precision precision, Activation activation,
                          int64_t expert, bool differentiate, float* mix,
                          FitMetric* metric, Scratch* s) const {
  const int64_t rows = target_.rows;
  const int64_t cols = target_.cols;
  const int64_t size = target_.matrix_size();
  const bool moment = target_.moment.size() > 0;
  // bfloat16 is too coarse for what an expert hardly reads, but not for the way
  // back from the error.
  const Precision forward = own_ ? Precision::kFloat32 : precision;
  Kernels().activate(activation, mix, basis_size_, s->active.data());
  Operand y =
      Round(forward, s->active.data(), basis_size_, cols, &s->active_half);
  Operand root;
  if (own_) {
    root = {OwnRoot(expert, &s->root), nullptr, cols};
    MultiplyByTriangle(Trans::kNo, rank_, y, root, s->weighted.data());
    y.full = s->weighted.data();
  } else if (moment) {
    root = {root_.data(),
            forward == Precision::kBFloat16 ? root_half_.data() : nullptr,
            cols};
    Multiply(Trans::kNo, Trans::kNo, rank_, cols, cols, y, root,
             s->weighted.data());
    y = Round(forward, s->weighted.data(), basis_size_, cols,
              &s->weighted_half);
  }
  const float* target =
      moment ? weighted_.data() + expert * size : target_.matrix(expert);
  // Rounded anew each time: that costs less than a hundredth of the products,
  // and keeping it would cost half of the target's memory.
  const Operand v = Round(forward, target, size, cols, &s->error_half);
  FactorGram(expert, y, s);
  Multiply(Trans::kNo, Trans::kYes, rank_, rows, cols, y, v, s->a.data());
  const double weight = own_ ? target_.importance_of(expert) : 1;
  const double loss = weight * SolveA(expert, s);
  if (!differentiate) return loss;

  if (metric != nullptr && metric->Wants(expert)) {
    metric->Add(expert, activation, mix, y.full, s->gram.data(), s->a.data());
  }
  Operand a = Round(forward, s->a.data(), rank_ * rows, rows, &s->a_half);
  Multiply(Trans::kYes, Trans::kNo, rows, cols, rank_, a, y, s->error.data());
  Kernels().subtract(s->error.data(), inverse_scale_, target, size,
                     s->error.data());
  const Operand error =
      Round(precision, s->error.data(), size, cols, &s->error_half);
  if (own_) {
    a = Round(precision, s->a.data(), rank_ * rows, rows, &s->a_half);
    root = Round(precision, root.full, cols * cols, cols, &s->root_half);
  }
  Buffer<float>& d_y = moment ? s->weighted : s->active;
  Multiply(Trans::kNo, Trans::kNo, rank_, cols, rows, a, error, d_y.data());
  if (moment) {
    const Operand d =
        Round(precision, d_y.data(), basis_size_, cols, &s->weighted_half);
    if (own_) {
      MultiplyByTriangle(Trans::kYes, rank_, d, root, s->active.data());
    } else {
      Multiply(Trans::kNo, Trans::kYes, rank_, cols, cols, d, root,
               s->active.data());
    }
  }
  Kernels().activate_backward(activation, mix, s->active.data(), basis_size_,
                              mix);
  if (own_) {
    for (int64_t i = 0; i < basis_size_; ++i) {
      mix[i] *= static_cast<float>(weight);
    }
  }
  return loss;
}

// s->gram = R with R^T R = Y Y^T, its Cholesky factor. Where f is nearly
// linear, rows of Y can be nearly dependent, and rounding makes the product
// indefinite: it takes a larger ridge.
void FitPass::FactorGram(int64_t expert, const Operand& y, Scratch* s) const {
  constexpr int kTries = 5;
  double ridges = 1;
  for (int i = 0; i < kTries; ++i, ridges *= 10) {
    MultiplyBySelf(rank_, y, s->gram.data());
    AddRidge(rank_, s->gram.data(), ridges);
    if (Cholesky(rank_, s->gram.data(), rank_) < 0) return;
  }
  Fail(ErrorKind::kInternal,
       "the normal equations of expert {} can't be solved; try another --seed",
       expert);
}

// Replaces Y V^T in s->a by A^T. Returns the squared error, which at the best A
// is |V|^2 - |R^-T Y V^T|^2.
double FitPass::SolveA(int64_t expert, Scratch* s) const {
  const int64_t count = target_.rows * rank_;
  float* a = s->a.data();
  for (int64_t i = 0; i < count; ++i) a[i] *= inverse_scale_;
  const float* factor = s->gram.data();
  SolveForward(rank_, factor, rank_, a, target_.rows, target_.rows);
  const double explained = Dot(a, a, count);
  SolveBackward(rank_, factor, rank_, a, target_.rows, target_.rows);
  return std::max(norms_[expert] - explained, 0.0);
}

}  // namespace mobe::internal
