// The best A on a device of PyTorch.
#pragma once

#include "fit/fit.h"
#include "fit/torch/tensors.h"

namespace mobe::torch {

// FitDevice::SolveA.
void SolveA(const Machine& machine, const FitTarget& target, Factors* factors);
// FitDevice::SolveForOutputs, by the formulas of output_solve.cc.
void SolveForOutputs(const Machine& machine, const ExpertOutputs& outputs,
                     const RoutedInputs& inputs, const Buffer<float>& mix,
                     const Buffer<float>& gram, int64_t rows, int64_t rank,
                     int64_t cols, float* a);

}  // namespace mobe::torch
