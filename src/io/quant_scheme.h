// How the publisher of a checkpoint quantised its matrices, as
// "quantization_config" in config.json says it. Read are
//
//   quant_method "fp8"                 F8_E4M3 (DeepSeek-V3, Qwen3, MiniMax-M2)
//   "compressed-tensors", of format
//     "float-quantized"                F8_E4M3 (also "naive-quantized")
//     "int-quantized"                  I8, 8 bits
//     "pack-quantized"                 4 or 8 bits in words (Kimi-K2-Thinking)
//     with "expert_dtype" "fp4"        and I8, two numbers of E2M1 in a byte
//                                      (DeepSeek-V4's experts)
//   "mxfp4"                            E2M1 in stacked experts (gpt-oss)
//   "awq", of version "gemm"           4 bits in words (io/transposed_codes.h)
//   "gptq", of checkpoint_format
//     "gptq", "gptq_v2"                4 or 8 bits in words, the same
//
// with scales of blocks, groups, rows or the whole matrix, and symmetric but
// for the last two. Others (AWQ for GEMV, Marlin, NVFP4, bitsandbytes,
// AutoRound) are refused by name. Sources: transformers 5.24, quantizers;
// compressed-tensors 0.12.
#pragma once

#include <cstdint>
#include <optional>

#include "io/config.h"
#include "io/safetensors.h"
#include "io/transposed_codes.h"

namespace mobe {

// How the names of MXFP4's planes end.
inline constexpr char kMxBlocksEnding[] = "_blocks";
inline constexpr char kMxScalesEnding[] = "_scales";
// Numbers of a row that share a scale there, and in matrices of `fp4_experts`.
inline constexpr int64_t kMxBlock = 32;
// Where a config says that there are such.
inline constexpr char kExpertDType[] = "expert_dtype";

struct QuantScheme {
  // Rows and columns that share a scale; 0 x 0: as the scales' shape says.
  BlockSize block = {};
  int code_bits = 0;      // of integers; 0: FP8
  bool in_words = false;  // these lie in words of 32 bits
  bool is_mxfp4 = false;
  // Matrices of I8 are E2M1, two in a byte, the first one low, with a scale for
  // 32 in a row.
  bool fp4_experts = false;
  // AWQ's and GPTQ's; block.cols is that of groups.
  std::optional<CodesOrder> transposed;
  bool zeros_less_one = false;
  // "quant_method" is "fp8", which is the form that mobe can write, too.
  bool is_fp8_method = false;
};

// Nothing for a checkpoint that is not quantised. Fails with kUnsupported for
// another scheme or a key that may mean one, with kCorruptFile for block sizes
// that are none.
std::optional<QuantScheme> ReadQuantScheme(const ConfigReader& config);

}  // namespace mobe
