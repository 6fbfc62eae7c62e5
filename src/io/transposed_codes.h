// Matrices as AutoAWQ and the programs for GPTQ write them: codes of 4 (GPTQ:
// or 8) bits in words of 32, transposed, with a scale and a zero for each group
// of inputs,
//
//   w[r, c] = scale[g, r] (code[r, c] - zero[g, r]),   g = c's group,
//
// in place of X.weight [rows, cols] the I32 tensors
//
//              AWQ                      GPTQ
//   X.qweight  [cols, rows / 8]         [cols / 8, rows]       (8 bits: / 4)
//   X.qzeros   [groups, rows / 8]       [groups, rows / 8]
//   X.g_idx                             [cols], the group of each column; where
//                                       it is missing they are adjacent
//
// and X.scales [groups, rows], floats. From the lowest bits up, a word of
// GPTQ's has the numbers 0 to 7, one of AWQ's the numbers 0, 2, 4, 6, 1, 3,
// 5, 7. In GPTQ's first format ("checkpoint_format" "gptq", not "gptq_v2") 1
// was taken from every zero. What is borrowed there from a zero of 0 goes
// through the whole word in GPTQModel, so it is given back to the whole word.
//
// Sources: AutoAWQ 0.2.9, awq/utils/packing_utils.py and
// modules/linear/gemm.py; GPTQModel of 2026-08, nn_modules/qlinear and
// utils/model.py (convert_gptq_v1_to_v2_format_module); transformers 4.57,
// AwqConfig and GPTQConfig, and the integrations of both.
#pragma once

#include <cstdint>

#include "io/safetensors.h"

namespace mobe {

enum class CodesOrder { kAwq, kGptq };

struct TransposedCodes {
  CodesOrder order = CodesOrder::kAwq;
  bool zeros_less_one = false;
  int64_t group_cols = 0;
  const TensorView* zeros = nullptr;
  const TensorView* scales = nullptr;
  const TensorView* groups = nullptr;  // I32; null: group_cols adjacent columns
};

// Numbers in a word.
inline int64_t CodesInWord(int bits) { return 32 / bits; }

// out [count] = the elements [first, first + count) of such a matrix
// (TensorView::transposed), whose tensors have the shapes above. Fails with
// kCorruptFile where a column's group is none.
void LoadTransposed(const TensorView& matrix, int64_t first, int64_t count,
                    float* out);

}  // namespace mobe
