// A fit on a device of PyTorch.
#pragma once

#include <cstdint>
#include <vector>

#include "fit/device.h"
#include "fit/torch/tensors.h"

namespace mobe::torch {

class State : public FitState {
 public:
  State(const Machine& machine, const FitTarget& target,
        const FitOptions& options);

  double Differentiate(int64_t pass, bool exact, const Buffer<float>& alpha,
                       Buffer<float>* d_alpha) override;
  double Measure(const Buffer<float>& alpha) override;
  void Step(const Buffer<float>& alpha, double step, double momentum) override;
  void FixScale(double root) override;
  void Narrow(int64_t basis_rank) override;
  void Retract() override;
  void Save() override;
  void Restore() override;
  std::vector<double> Gram() override;
  Buffer<float> Bases() override;

 private:
  // A mean over the experts seen, its lower triangle, and the inverse, damped.
  struct Factor {
    Tensor mean;
    Tensor inverse;
  };

  at::TensorOptions Floats() const;
  void LoadTarget();
  void Start();
  double Run(bool exact, const Buffer<float>& alpha, const Tensor& d_alpha);
  void Look(int64_t first, const Tensor& mix, const Tensor& y, const Tensor& l,
            const Tensor& a);
  void RenewMetric();
  void ApplyMetric(const Buffer<float>& alpha);
  void ToTangents();
  static double DampingOf(const Tensor& mean);

  const Machine machine_;
  const FitTarget& target_;
  const FitOptions& options_;
  const double scale_;
  Tensor weights_;  // [experts, rows, cols], in memory of the process
  Tensor weighed_;  // W, or with a moment V = W H
  Tensor norms_;    // [experts]: |V_e|^2 / scale^2
  Tensor root_;     // H [cols, cols]; undefined: the identity
  double square_of_root_ = 1;  // mean of the diagonal of H H^T
  Tensor bases_;               // [num_bases, rank, cols], as the next three
  Tensor gradient_;
  Tensor velocity_;
  Tensor best_;  // bfloat16
  // Low-rank bases, as in project.h: U^T and V.
  int64_t basis_rank_;
  Tensor left_;
  Tensor right_;
  // The metric, and what the experts of this pass add to it.
  Factor ranks_;
  Factor columns_;
  int64_t pass_ = 0;
  int64_t seen_ = 0;
  Tensor spanned_;  // sum of Q^T Q [cols, cols]
  Tensor slopes_;   // sum of A^T A * F [rank, rank]
};

}  // namespace mobe::torch
