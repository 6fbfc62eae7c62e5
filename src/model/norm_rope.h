// RMS norm and rotary position embedding.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mobe {

// y = x / sqrt(mean(x^2) + eps) * weight for each row of x [rows,
// weight.size()]; y may be x. Zhang and Sennrich 2019, arXiv 1910.07467.
void RmsNorm(std::span<const float> weight, float eps, const float* x,
             int64_t rows, float* y);

// Cosines and sines of the angles position * theta^(-2 i / head_dim), for
// consecutive positions. Su et al. 2021, arXiv 2104.09864.
class RopeTable {
 public:
  // Angles are rounded to float32 at the same steps as in transformers, whose
  // error at far positions is part of what models were trained with.
  RopeTable(int64_t head_dim, double theta);

  // Prepares rows for positions [first, first + count).
  void Prepare(int64_t first, int64_t count);

  // Rotates one head vector [head_dim] to position first + row. The halves are
  // paired, (x[i], x[i + head_dim / 2]), as in Qwen and Llama.
  void Rotate(int64_t row, float* head) const;

 private:
  std::vector<float> frequencies_;      // [head_dim / 2]
  std::vector<float> cosines_, sines_;  // [count, head_dim / 2]
};

}  // namespace mobe
