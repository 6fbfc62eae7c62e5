// A fit on a device of PyTorch.
#pragma once

#include <memory>

#include "fit/device.h"
#include "fit/torch/tensors.h"

namespace mobe::torch {

// FitDevice::Begin.
std::unique_ptr<FitState> BeginFit(const Machine& machine,
                                   const FitTarget& target,
                                   const FitOptions& options);

}  // namespace mobe::torch
