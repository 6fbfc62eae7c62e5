// The metric in which the fast solver steps the bases: the Gauss-Newton matrix
// of the error, taken as a Kronecker product (as K-FAC does: Martens and Grosse
// 2015). In the names of pass.h, a small step dB changes expert e's error
// by
//
//   A_e (f'(M_e) * sum_i alpha_ei dB_i) H projected on what Y_e does not span,
//
// since A follows within the row space of Y_e. With means over the experts,
//
//   H ~ (alpha^T alpha) x mean_e(A_e^T A_e * F_e) x mean_e(P_e)
//     on bases           x rank                    x columns
//   F_e = f'(M_e) f'(M_e)^T / columns
//   P_e = H (I - Y_e^T (Y_e Y_e^T)^-1 Y_e) H^T
//
// The last two means are taken over a few experts at a time, others each time,
// and fade: they cost more than an expert's part of a pass.
#pragma once

#include <cstdint>
#include <vector>

#include "base/matrix.h"
#include "fit/fit.h"
#include "fit/inverse.h"
#include "fit/looks.h"
#include "fit/product.h"
#include "kernels/gemm.h"

namespace mobe::internal {

class FitMetric {
 public:
  FitMetric(const FitTarget& target, const FitOptions& options,
            Precision precision, const Buffer<float>& root);

  // Around pass number `pass` (from 1).
  void Begin(int64_t pass);
  void End();

  // During it: whether to see this expert, and if so its mix M and Y [rank,
  // cols], the Cholesky factor R of Y Y^T [rank, rank] (upper; R^T R = Y Y^T)
  // and A^T [rank, rows]. May be called from several threads.
  bool Wants(int64_t expert) const;
  void Add(int64_t expert, Activation activation, const float* mix,
           const float* y, const float* factor, const float* a);

  // gradient [num_bases, rank, cols] becomes H^-1 gradient.
  void Apply(const Buffer<float>& alpha, Buffer<float>* gradient);

 private:
  // A mean over experts, and the inverse of it, damped.
  struct Factor {
    int64_t size = 0;
    Buffer<float> mean;     // [size, size], the upper triangle
    Buffer<float> inverse;  // [size, size]
    Buffer<BFloat16> inverse_half;
    Operand operand;  // the inverse
  };
  Operand Spaces() const;
  void FadeColumns(float total);
  void FadeRanks(float total);
  void Invert(double damping, const Buffer<float>& matrix, Factor* factor);

  const FitTarget& target_;
  const int64_t num_bases_;
  const int64_t rank_;
  const Precision precision_;
  const Buffer<float>& root_;    // H; empty: the identity
  const double square_of_root_;  // mean of the diagonal of H H^T
  const int64_t stride_;         // between the experts seen in one pass
  int64_t pass_ = 0;
  // Slots for the experts seen in one pass: 1 if there is one, else 0; Q = R^-T
  // Y, so that P = H (I - Q^T Q) H^T; and A^T A * F.
  std::vector<float> seen_;
  Buffer<float> spaces_;          // [slots, rank, cols], or
  Buffer<BFloat16> spaces_half_;  // the same
  Buffer<float> slopes_;          // [slots, rank, rank]
  Factor bases_;
  Factor ranks_;
  Factor columns_;
  Buffer<float> projection_;  // [cols, cols]: of a moment, and
  Buffer<float> between_;     // the same
  InverseScratch scratch_;
};

}  // namespace mobe::internal
