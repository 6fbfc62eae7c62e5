// The best A on a device of PyTorch.
#pragma once

#include "fit/fit.h"
#include "fit/torch/tensors.h"

namespace mobe::torch {

// FitDevice::SolveA.
void SolveA(const Machine& machine, const FitTarget& target, Factors* factors);

}  // namespace mobe::torch
