// RMS norm.
#pragma once

#include <cstdint>
#include <span>

namespace mobe {

// y = x / sqrt(mean(x^2) + eps) * weight for each row of x [rows,
// weight.size()]; y may be x. Zhang and Sennrich 2019, arXiv 1910.07467.
void RmsNorm(std::span<const float> weight, float eps, const float* x,
             int64_t rows, float* y);

}  // namespace mobe
