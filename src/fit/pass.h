// One pass of the fast solver over all experts of a layer and kind: for given
// bases and alpha the best A of every expert, and the gradient of the error at
// that A.
//
//   N_e = f(M_e), M_e = sum_i alpha_ei B_i
//   A_e = V_e Y_e^T (Y_e Y_e^T + eps I)^-1,  Y_e = N_e H,  V_e = W_e H
//   E_e = A_e Y_e - V_e                      (its error)
//   dM_e = (A_e^T E_e H^T) * f'(M_e)         (the gradient to the mix)
//
// with W in units of its standard deviation, eps a millionth of the mean of Y_e
// Y_e^T's diagonal, and H H^T the second moment of the input where the target
// has one, else the identity. Three products of 2 n p r d operations and half
// of one of 2 n r r d (and two of 2 n r d d with H). They run in bfloat16 with
// float32 sums where asked for, the rest in float32. (The moment itself in
// place of H would save a product, but rounded to bfloat16 it makes normal
// equations that are not positive definite.) Experts go through in chunks, so
// that the mix of only one chunk is in memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/matrix.h"
#include "fit/fit.h"
#include "fit/metric.h"
#include "fit/product.h"
#include "kernels/gemm.h"

namespace mobe::internal {

// Added to the diagonal of the moment, whose mean is 1. Bases serve all experts
// and whatever they read, so that the moment of a text must not rule them. For
// the same reason experts count alike here, whatever their share of the text's
// tokens. The last solve for A (weighted_solve.h) is what follows the text.
inline constexpr float kBasesFloor = 3.0f;

// Experts whose mix is in memory at a time. Depends on the target alone, as
// everything that decides the order of sums must. An eighth of the experts adds
// an eighth of the target to memory and reads the bases eight times a pass,
// which costs a few percent.
inline int64_t ChunkOf(int64_t experts) {
  return std::min(experts, std::max<int64_t>((experts + 7) / 8, 16));
}

// What H H^T is where the target has a moment.
enum class InputNorm {
  kLayer,   // the layer's, with kBasesFloor; experts count alike
  kExpert,  // each expert's own (weighted_solve.h); they count by importance
};

// Each expert's own H is kept where all take no more than this, in bytes, and
// made anew in each pass otherwise, which costs as much as the pass again.
inline constexpr int64_t kMostRoots = int64_t{2} << 30;

// What a pass best runs in on this machine, if it need not be exact.
Precision FastestOf(const FitTarget& target, const FitOptions& options);

class FitPass {
 public:
  FitPass(const FitTarget& target, const FitOptions& options,
          InputNorm norm = InputNorm::kLayer, int64_t most_roots = kMostRoots);

  // The layer's H [cols, cols], lower triangular; empty: the identity, or
  // experts have their own.
  const Buffer<float>& root() const { return root_; }

  // The mean squared error of V / scale, each expert at its best A.
  double Measure(Precision precision, const Factors& factors);

  // The same, and the gradient of half the squared error to bases and alpha.
  // `metric`, unless it is null, sees the experts that it wants. In experts'
  // own norms A and its error are always found in float32.
  double Differentiate(Precision precision, const Factors& factors,
                       float* d_bases, float* d_alpha,
                       FitMetric* metric = nullptr);

 private:
  // Working memory of one thread.
  struct Scratch {
    Buffer<float> active;    // N, later the gradient to it [rank, cols]
    Buffer<float> weighted;  // Y, with a moment; then a gradient [rank, cols]
    Buffer<float> gram;      // Y Y^T, then its factor R [rank, rank]
    Buffer<float> a;         // A^T [rank, rows]
    Buffer<float> error;     // E [rows, cols]
    Buffer<BFloat16> active_half;
    Buffer<BFloat16> weighted_half;
    Buffer<BFloat16> a_half;
    Buffer<BFloat16> error_half;  // V before E
    Buffer<float> root;           // H of the expert, where it is not kept
    Buffer<BFloat16> root_half;
  };

  double Run(Precision precision, const Factors& factors, float* d_bases,
             float* d_alpha, FitMetric* metric);
  double RunExpert(Precision precision, Activation activation, int64_t expert,
                   bool differentiate, float* mix, FitMetric* metric,
                   Scratch* scratch) const;
  void FactorGram(int64_t expert, const Operand& y, Scratch* scratch) const;
  double SolveA(int64_t expert, Scratch* scratch) const;
  // H of an expert whose own it is.
  const float* OwnRoot(int64_t expert, Buffer<float>* memory) const;
  void WeighTarget(int64_t most_roots);

  const FitTarget& target_;
  const int64_t num_bases_;
  const int64_t rank_;
  const int64_t basis_size_;
  const int64_t chunk_;  // experts
  const float inverse_scale_;
  const bool own_;              // InputNorm::kExpert, of a target with a moment
  std::vector<double> norms_;   // |V_e|^2 / scale^2
  Buffer<float> root_;          // H
  Buffer<float> weighted_;      // V, with a moment
  Buffer<BFloat16> root_half_;  // H in bfloat16
  std::vector<Buffer<float>> own_roots_;  // [experts], or empty: not kept
  std::vector<double> losses_;            // [experts] of the pass
  Buffer<float> mix_;  // [chunk, rank, cols]: the mix, then its gradient
  std::vector<Scratch> scratch_;
};

}  // namespace mobe::internal
