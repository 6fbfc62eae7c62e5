// The fast solver: variable projection (Golub and Pereyra 1973). A is linear,
// so for given N_e = f(sum_i alpha_ei B_i) the best one is known in closed
// form,
//
//   A_e = W_e N_e^T (N_e N_e^T + eps I)^-1,
//
// and the gradient of the error to bases and alpha is the one at that A.
//
// Bases move by gradient with momentum in the metric of the Gauss-Newton
// matrix, taken as a Kronecker product (as K-FAC does: Martens and Grosse
// 2015): for small steps the error of expert e changes by A_e f' sum_i alpha_ei
// dB_i, so
//
//   H ~ f'^2 (alpha^T alpha) x (mean_e A_e^T A_e),   dB = -step H^-1 gradient.
//
// H overrates the curvature, since A follows; steps of many times the Newton
// step converge fastest, at the edge of stability. When the error jumps, the
// best state is restored and the step halved. Alpha is free (the format stores
// it as used, so it needs no softmax), starts dense (one-hot is a saddle) and
// is stepped by Adam. docs/fit.md has what was tried and what it gave.
#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/gemm.h"
#include "mobe/fit.h"

namespace mobe::internal {
namespace {

// Steps of the bases, in Newton steps of H, and of alpha (Adam's rate). Both
// follow a cosine to zero; the first kWarmup passes rise to it.
constexpr double kStep = 15;
constexpr double kMomentum = 0.95;
constexpr double kAlphaRate = 0.02;
constexpr double kWarmup = 5;
constexpr float kAlphaNoise = 0.3f;
// Damping of both factors of H, relative to the mean of their diagonal.
constexpr double kDamping = 0.01;
// A pass whose error exceeds the best one by this factor has gone astray. The
// first passes may rise above their start by less.
constexpr double kAstray = 1.3;
// Ridge of the normal equations, relative to the mean of their diagonal.
constexpr double kRidge = 1e-6;

// Working memory of one expert's part of a pass.
struct Scratch {
  Buffer<float> active;  // N [rank, cols]
  Buffer<float> gram;    // N N^T [rank, rank]
  Buffer<float> error;   // A N - W [rows, cols]
};

class FastFit {
 public:
  FastFit(const FitTarget& target, const FitOptions& options)
      : target_(target),
        options_(options),
        n_(target.experts),
        m_(options.num_bases),
        rows_(target.rows),
        cols_(target.cols),
        rank_(options.rank),
        basis_size_(options.rank * target.cols),
        inverse_scale_(static_cast<float>(1 / target.scale)),
        mix_(n_ * basis_size_),
        scratch_(Threads()) {
    openblas_set_num_threads(1);  // experts run in parallel instead
    for (Scratch& s : scratch_) {
      s.active.Resize(basis_size_);
      s.gram.Resize(rank_ * rank_);
      s.error.Resize(rows_ * cols_);
    }
    factors_.num_bases = m_;
    factors_.rank = rank_;
    factors_.activation = options.activation;
    factors_.a.Resize(n_ * rows_ * rank_);
    SvdStart svd = GroupedSvd(target.weights.data(), n_, rows_, cols_, m_,
                              rank_, WantA::kNo);
    factors_.bases = std::move(svd.bases);
    factors_.alpha.Resize(n_ * m_);
    std::mt19937_64 random(options.seed);
    std::normal_distribution<float> normal(0.0f, kAlphaNoise);
    for (int64_t e = 0; e < n_; ++e) {
      for (int64_t i = 0; i < m_; ++i) {
        factors_.alpha[e * m_ + i] =
            (i == svd.group[e] ? 1.0f : 0.0f) + normal(random);
      }
    }
  }

  Factors Run(const PassFn& on_pass) {
    const int64_t size = m_ * basis_size_;
    Adam adam_alpha(n_ * m_);
    Buffer<float> d_bases(size);
    Buffer<float> d_alpha(n_ * m_);
    Buffer<float> velocity(size);
    std::fill(velocity.begin(), velocity.end(), 0.0f);
    double best_loss = std::numeric_limits<double>::infinity();
    double shrink = 1;
    int64_t since_restart = 0;
    for (int64_t pass = 1; pass <= options_.passes; ++pass) {
      const double loss = ErrorPass();
      if (pass == 1 && !std::isfinite(loss)) {
        Fail(
            ErrorKind::kUnsupported,
            "the fit overflows float32 at its start: the weights are too large "
            "(standard deviation {:.3g})",
            target_.scale);
      }
      on_pass(pass, options_.passes, loss);
      if (loss < best_loss) {
        best_loss = loss;
        best_bases_.CopyFrom(factors_.bases);
        best_alpha_.CopyFrom(factors_.alpha);
      } else if (!(loss < kAstray * best_loss)) {  // also when it is NaN
        Restart(&velocity, &adam_alpha);
        shrink /= 2;
        since_restart = 0;
        continue;
      }
      MixBackward(factors_.alpha.data(), factors_.bases.data(), mix_.data(), n_,
                  m_, basis_size_, d_bases.data(), d_alpha.data());
      Precondition(d_bases.data());
      ++since_restart;
      const double cosine =
          0.5 * (1 + std::cos(std::numbers::pi * static_cast<double>(pass - 1) /
                              static_cast<double>(options_.passes)));
      const double warm =
          std::min(1.0, static_cast<double>(since_restart) / kWarmup);
      Move(kStep * shrink * warm * cosine, d_bases.data(), velocity.data());
      adam_alpha.Step(since_restart, kAlphaRate * shrink * cosine,
                      d_alpha.data(), factors_.alpha.data());
    }
    // The last step was not measured yet.
    if (!(ErrorPass() < best_loss)) {
      factors_.bases.CopyFrom(best_bases_);
      factors_.alpha.CopyFrom(best_alpha_);
    }
    Polish();
    return std::move(factors_);
  }

 private:
  // Solves for every A and leaves the gradient to the mix in mix_; returns the
  // mean squared error of W / scale.
  double ErrorPass() {
    MixBases(factors_.alpha.data(), factors_.bases.data(), n_, m_, basis_size_,
             mix_.data());
    std::vector<double> losses(n_);
    ParallelFor(n_, [&](int64_t e) { losses[e] = ExpertPass(e); });
    return std::accumulate(losses.begin(), losses.end(), 0.0) /
           static_cast<double>(target_.weights.size());
  }

  void Restart(Buffer<float>* velocity, Adam* adam_alpha) {
    factors_.bases.CopyFrom(best_bases_);
    factors_.alpha.CopyFrom(best_alpha_);
    std::fill(velocity->begin(), velocity->end(), 0.0f);
    *adam_alpha = Adam(n_ * m_);
  }

  // gradient [bases, rank, cols] *= H^-1, in place.
  void Precondition(float* gradient) {
    Buffer<float> rank_metric(rank_ * rank_);
    const float* a = factors_.a.data();
    const auto stacked = n_ * rows_;
    constexpr int64_t kGrain = 32;
    ParallelRanges(rank_, kGrain, [&](int64_t begin, int64_t end) {
      Gemm(Trans::kYes, Trans::kNo, end - begin, rank_, stacked, a + begin,
           rank_, a, rank_, 0.0f, rank_metric.data() + begin * rank_, rank_);
    });
    // At zero silu' is 1/2, the others' slope is 1.
    const double slope = options_.activation == Activation::kSilu ? 0.5 : 1.0;
    InvertMetric(rank_, slope * slope / static_cast<double>(n_), &rank_metric);
    Buffer<float> basis_metric(m_ * m_);
    Gemm(Trans::kYes, Trans::kNo, m_, m_, n_, factors_.alpha.data(), m_,
         factors_.alpha.data(), m_, 0.0f, basis_metric.data(), m_);
    InvertMetric(m_, 1.0, &basis_metric);
    // mix_ has served its purpose in this pass and is larger than the bases.
    MixBases(basis_metric.data(), gradient, m_, m_, basis_size_, mix_.data());
    ParallelFor(m_, [&](int64_t i) {
      Gemm(Trans::kNo, Trans::kNo, rank_, cols_, rank_, rank_metric.data(),
           rank_, mix_.data() + i * basis_size_, cols_, 0.0f,
           gradient + i * basis_size_, cols_);
    });
  }

  // matrix = (factor * matrix + damping)^-1 for a symmetric matrix [size,
  // size].
  static void InvertMetric(int64_t size, double factor, Buffer<float>* matrix) {
    double trace = 0;
    for (float& value : *matrix) value *= static_cast<float>(factor);
    for (int64_t k = 0; k < size; ++k) trace += (*matrix)[k * size + k];
    const auto damping = static_cast<float>(
        std::max(kDamping * trace / static_cast<double>(size), 1e-30));
    for (int64_t k = 0; k < size; ++k) (*matrix)[k * size + k] += damping;
    const int order = static_cast<int>(size);
    int info = LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'L', order, matrix->data(),
                                   order);
    if (info == 0) {
      info = LAPACKE_spotri_work(LAPACK_COL_MAJOR, 'L', order, matrix->data(),
                                 order);
    }
    if (info != 0) {
      Fail(ErrorKind::kInternal, "the metric of the fit is singular ({})",
           info);
    }
    // LAPACK's lower triangle is the upper one here.
    for (int64_t r = 1; r < size; ++r) {
      for (int64_t c = 0; c < r; ++c) {
        (*matrix)[r * size + c] = (*matrix)[c * size + r];
      }
    }
  }

  // velocity = momentum * velocity + (1 - momentum) * direction;
  // bases -= step * velocity.
  void Move(double step, const float* direction, float* velocity) {
    const auto keep = static_cast<float>(kMomentum);
    const auto add = static_cast<float>(1 - kMomentum);
    const auto scale = static_cast<float>(step);
    constexpr int64_t kGrain = 1 << 16;
    ParallelRanges(m_ * basis_size_, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        velocity[i] = keep * velocity[i] + add * direction[i];
        factors_.bases[i] -= scale * velocity[i];
      }
    });
  }

  // Solves for A of expert e from N in scratch; scaled to W / scale.
  void SolveA(int64_t e, Scratch* s) {
    float* a = factors_.a.data() + e * rows_ * rank_;
    cblas_ssyrk(CblasRowMajor, CblasUpper, CblasNoTrans,
                static_cast<int>(rank_), static_cast<int>(cols_), 1.0f,
                s->active.data(), static_cast<int>(cols_), 0.0f, s->gram.data(),
                static_cast<int>(rank_));
    double trace = 0;
    for (int64_t k = 0; k < rank_; ++k) trace += s->gram[k * rank_ + k];
    const auto ridge = static_cast<float>(
        std::max(kRidge * trace / static_cast<double>(rank_), 1e-30));
    for (int64_t k = 0; k < rank_; ++k) s->gram[k * rank_ + k] += ridge;
    Gemm(Trans::kNo, Trans::kYes, rows_, rank_, cols_, target_.matrix(e), cols_,
         s->active.data(), cols_, 0.0f, a, rank_);
    for (int64_t i = 0; i < rows_ * rank_; ++i) a[i] *= inverse_scale_;
    // Row-major upper is column-major lower, and row-major A is column-major
    // A^T, so G A^T = N W^T is solved in place.
    const int rank = static_cast<int>(rank_);
    int info =
        LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'L', rank, s->gram.data(), rank);
    if (info == 0) {
      info = LAPACKE_spotrs_work(LAPACK_COL_MAJOR, 'L', rank,
                                 static_cast<int>(rows_), s->gram.data(), rank,
                                 a, rank);
    }
    if (info != 0) {
      Fail(ErrorKind::kInternal,
           "the normal equations of expert {} can't be solved ({}); try "
           "another --seed",
           e, info);
    }
  }

  // One expert's part of a pass: solves A, overwrites the mix by the gradient
  // to it, and returns the squared error.
  double ExpertPass(int64_t e) {
    Scratch* s = &scratch_[ThreadIndex()];
    float* mix = mix_.data() + e * basis_size_;
    const float* a = factors_.a.data() + e * rows_ * rank_;
    Kernels().activate(options_.activation, mix, basis_size_, s->active.data());
    SolveA(e, s);
    Gemm(Trans::kNo, Trans::kNo, rows_, cols_, rank_, a, rank_,
         s->active.data(), cols_, 0.0f, s->error.data(), cols_);
    const double loss = SubtractTarget(e, s->error.data());
    // The gradient of half the squared error, as H is its curvature.
    Gemm(Trans::kYes, Trans::kNo, rank_, cols_, rows_, a, rank_,
         s->error.data(), cols_, 0.0f, s->active.data(), cols_);
    Kernels().activate_backward(options_.activation, mix, s->active.data(),
                                basis_size_, mix);
    return loss;
  }

  // error -= W_e / scale, in place; returns the sum of squares.
  double SubtractTarget(int64_t e, float* error) {
    double sum = 0;
    const float* w = target_.matrix(e);
    for (int64_t row = 0; row < rows_; ++row) {
      float row_sum = 0;
      for (int64_t i = row * cols_; i < (row + 1) * cols_; ++i) {
        error[i] -= w[i] * inverse_scale_;
        row_sum += error[i] * error[i];
      }
      sum += row_sum;
    }
    return sum;
  }

  // Rounds bases and alpha as they will be stored and solves for A once more.
  void Polish() {
    RoundTo(options_.stored, &factors_.bases);
    RoundTo(options_.stored, &factors_.alpha);
    MixBases(factors_.alpha.data(), factors_.bases.data(), n_, m_, basis_size_,
             mix_.data());
    const auto scale = static_cast<float>(target_.scale);
    ParallelFor(n_, [&](int64_t e) {
      Scratch* s = &scratch_[ThreadIndex()];
      Kernels().activate(options_.activation, mix_.data() + e * basis_size_,
                         basis_size_, s->active.data());
      SolveA(e, s);
      float* a_e = factors_.a.data() + e * rows_ * rank_;
      for (int64_t i = 0; i < rows_ * rank_; ++i) a_e[i] *= scale;
    });
  }

  const FitTarget& target_;
  const FitOptions& options_;
  const int64_t n_;
  const int64_t m_;
  const int64_t rows_;
  const int64_t cols_;
  const int64_t rank_;
  const int64_t basis_size_;
  const float inverse_scale_;
  Factors factors_;
  Buffer<float> best_bases_;
  Buffer<float> best_alpha_;
  Buffer<float> mix_;  // [experts, rank, cols]: the mix, then its gradient
  std::vector<Scratch> scratch_;
};

}  // namespace

Factors FitFast(const FitTarget& target, const FitOptions& options,
                const PassFn& on_pass) {
  return FastFit(target, options).Run(on_pass);
}

}  // namespace mobe::internal
