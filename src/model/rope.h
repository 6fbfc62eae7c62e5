// Rotary position embedding, with yarn.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "families/family.h"

namespace mobe {

// Cosines and sines of the angles position * theta^(-2 i / dim). Su et al.
// 2021, arXiv 2104.09864.
//
// Yarn (Peng et al. 2023, arXiv 2309.00071, section 3.2) divides the
// frequencies of slow pairs by `factor`: wholly those that make fewer than
// beta_slow turns in the original context, not at all those that make more than
// beta_fast, and in between by a linear ramp.
class RopeTable {
 public:
  // Angles are rounded to float32 at the same steps as in transformers, whose
  // error at far positions is part of what models were trained with; a
  // frequency may differ from theirs in the last bit or two.
  explicit RopeTable(const Rope& rope);

  // Prepares a row for each position.
  void Prepare(std::span<const int64_t> positions);

  // Rotates the `dim` numbers at `x` to positions[row], in place. Pairs
  // are (x[i], x[i + dim / 2]), as in Qwen and Llama, or (x[2i], x[2i + 1]), as
  // in DeepSeek, if `interleaved`.
  void Rotate(int64_t row, float* x) const;

 private:
  bool interleaved_;
  float amplitude_;
  std::vector<float> frequencies_;      // [dim / 2]
  std::vector<float> cosines_, sines_;  // [positions, dim / 2]
};

}  // namespace mobe
