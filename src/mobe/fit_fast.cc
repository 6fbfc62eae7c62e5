// The fast solver: variable projection (Golub and Pereyra 1973). A is linear,
// so for given N_e = f(sum_i alpha_ei B_i) the best one is known in closed
// form,
//
//   A_e = W_e N_e^T (N_e N_e^T + eps I)^-1,
//
// and the gradient of the error to bases and alpha is the one at that A. Only
// bases and alpha are stepped, by Adam with a cosine schedule to zero. Alpha is
// free (the format stores it as used, so it needs no softmax) and starts dense:
// a one-hot start is a saddle. docs/fit.md has what was tried and what it gave.
#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/gemm.h"
#include "mobe/fit.h"

namespace mobe::internal {
namespace {

constexpr double kLearningRate = 0.07;
constexpr float kAlphaNoise = 0.3f;
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
    Adam adam_bases(m_ * basis_size_);
    Adam adam_alpha(n_ * m_);
    Buffer<float> d_bases(m_ * basis_size_);
    Buffer<float> d_alpha(n_ * m_);
    std::vector<double> losses(n_);
    for (int64_t pass = 1; pass <= options_.passes; ++pass) {
      MixBases(factors_.alpha.data(), factors_.bases.data(), n_, m_,
               basis_size_, mix_.data());
      ParallelFor(n_, [&](int64_t e) { losses[e] = ExpertPass(e); });
      double loss = 0;
      for (const double l : losses) loss += l;
      MixBackward(factors_.alpha.data(), factors_.bases.data(), mix_.data(), n_,
                  m_, basis_size_, d_bases.data(), d_alpha.data());
      const double progress =
          static_cast<double>(pass - 1) / static_cast<double>(options_.passes);
      const double rate =
          kLearningRate * 0.5 * (1 + std::cos(std::numbers::pi * progress));
      adam_bases.Step(pass, rate, d_bases.data(), factors_.bases.data());
      adam_alpha.Step(pass, rate, d_alpha.data(), factors_.alpha.data());
      on_pass(pass, loss / static_cast<double>(target_.weights.size()));
    }
    Polish();
    return std::move(factors_);
  }

 private:
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
    // The constant 2 / size of the gradient is left out: Adam does not see it.
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
  Buffer<float> mix_;  // [experts, rank, cols]: the mix, then its gradient
  std::vector<Scratch> scratch_;
};

}  // namespace

Factors FitFast(const FitTarget& target, const FitOptions& options,
                const PassFn& on_pass) {
  return FastFit(target, options).Run(on_pass);
}

}  // namespace mobe::internal
