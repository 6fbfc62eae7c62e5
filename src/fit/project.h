// Low-rank bases and sparse alpha in the fast solver: the fit is brought into
// the form asked for early and step by step, and stays in it from then on, so
// that bases and alpha are fitted in the form in which they will be stored.
//
// Bases of rank k are a curved surface. The gradient is projected on its
// tangents at B = U V (without that, steps in a metric that is not the identity
// end where the projection undoes them, not where the error is least), and
// after its step a basis is brought back by one subspace iteration from the
// last V: B becomes Q Q^T B, Q an orthonormal basis of B V^T's columns. An SVD,
// which costs far more, is needed only when k falls.
//
// Of an expert's alphas those stay that matter most to its mix (variants.cc
// says which); the others are zero from then on.
#pragma once

#include <cstdint>
#include <vector>

#include "base/matrix.h"
#include "fit/fit.h"

namespace mobe::internal {

// What the fit is in at a time: alphas of an expert that are not zero, up to
// num_bases, and the rank of the bases, up to that of A.
struct Form {
  int64_t alphas = 0;
  int64_t basis_rank = 0;
};
// After that share of the passes, in [0, 1): narrower with each step.
Form FormAt(const FitOptions& options, double done);

// On the CPU; other devices have their own.
class LowRankBases {
 public:
  LowRankBases(const FitTarget& target, const FitOptions& options)
      : cols_(target.cols),
        num_bases_(options.num_bases),
        rank_(options.rank),
        basis_rank_(options.rank) {}

  // From now on bases are of that rank; U and V from these ones, which stay.
  void Narrow(int64_t basis_rank, const Buffer<float>& bases);
  // Takes from the gradient to the bases [num_bases, rank, cols] what leads out
  // of the form. With the bases that Retract left.
  void Tangent(Buffer<float>* d_bases) const;
  // Brings bases into the form.
  void Retract(Buffer<float>* bases);

 private:
  void Retract(int64_t basis, float* b);

  const int64_t cols_;
  const int64_t num_bases_;
  const int64_t rank_;
  int64_t basis_rank_;  // rank_: no limit, and nothing to do
  // With orthonormal rows: U^T [num_bases, basis_rank, rank] and V [num_bases,
  // basis_rank, cols].
  Buffer<float> left_;
  Buffer<float> right_;
};

class SparseAlpha {
 public:
  // Chooses the alphas that stay, as SparsifyAlpha does.
  void Narrow(const std::vector<double>& gram, int64_t num_bases,
              int64_t alphas, Buffer<float>* alpha);
  // Brings alpha [experts, num_bases] into the form.
  void Apply(Buffer<float>* alpha) const;

 private:
  std::vector<bool> used_;  // empty: all
};

}  // namespace mobe::internal
