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

class Projection {
 public:
  Projection(const FitTarget& target, const FitOptions& options);

  // Takes from the gradient to the bases [num_bases, rank, cols] what leads out
  // of the form. Before the metric, and with the bases that Apply left.
  void Tangent(Buffer<float>* d_bases) const;

  // After other bases of the same form were put in their place.
  void Follow(Factors* factors);

  // After the step of a pass; `done`, in [0, 1), is the share of passes before
  // it. True when the form became narrower: errors of before do not compare.
  bool Apply(double done, Factors* factors);

 private:
  bool Narrow(double done, Factors* factors);
  void Retract(int64_t basis, float* b);

  const int64_t experts_;
  const int64_t cols_;
  const int64_t num_bases_;
  const int64_t rank_;
  const int64_t last_alphas_;  // what the form is at the end
  const int64_t last_basis_rank_;
  int64_t alphas_;          // and what it is now; num_bases_: no limit
  int64_t basis_rank_;      // the same, rank_
  std::vector<bool> used_;  // [experts, num_bases], when sparse
  // With orthonormal rows: U^T [num_bases, basis_rank, rank] and V [num_bases,
  // basis_rank, cols].
  Buffer<float> left_;
  Buffer<float> right_;
};

}  // namespace mobe::internal
