#include "model/norm.h"

#include "kernels/kernels.h"

namespace mobe {

void RmsNorm(std::span<const float> weight, float eps, const float* x,
             int64_t rows, float* y) {
  const auto cols = static_cast<int64_t>(weight.size());
  for (int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
    Kernels().rms_norm(weight.data(), eps, x, cols, y);
  }
}

}  // namespace mobe
