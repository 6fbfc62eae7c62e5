// Reading the weights of quantised checkpoints. FP8 as DeepSeek-V3, Kimi-K2 and
// Qwen3 publish it: config.json says
//
//   "quantization_config": {"quant_method": "fp8", "fmt": "e4m3",
//                           "weight_block_size": [128, 128], ...}
//
// and beside a matrix X.weight, F8_E4M3 [rows, cols], there is
//
//   X.weight_scale_inv   F32 (Qwen3: BF16; powers of two, "scale_fmt": "ue8m0",
//                        also as F8_E8M0) [rows / 128, cols / 128], rounded up:
//
// a weight is the stored number times (in spite of the name) the scale of its
// block of 128 x 128. Without a block size there is one scale for the matrix or
// one for each row, in X.weight_scale or under the other name. Integers of
// compressed-tensors (io/quant_scheme.h) have X.weight_scale [rows, groups],
// those of AWQ and GPTQ more (io/transposed_codes.h). Which matrices are
// quantised their own dtypes tell. Checkpoint links the two
// (TensorView::scales), so that LoadFloats reads any tensor.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/safetensors.h"

namespace mobe {

// The names that the scales of a tensor may have; the weight is the stored
// number times the scale by either.
inline constexpr const char* kScalesEndings[] = {"_scale_inv", "_scale"};

// The block of a matrix whose scales have this shape, for a scheme that does
// not say it: {1, cols} for one scale a row, {rows, cols} for one in all.
BlockSize BlockOf(const TensorDecl& matrix, const TensorDecl& scales);

// What is wrong with such scales for such a matrix, as "has shape ..., expected
// ..."; empty: nothing.
std::string CheckScales(const TensorDecl& matrix, const TensorDecl& scales,
                        const BlockSize& block);

// Scales of a row of blocks.
int64_t ScaleStride(const TensorView& matrix);

// out [count] = the elements [first, first + count) of a tensor of floats, read
// as a flat array, those of FP8 with scales as weights.
void LoadFloats(const TensorView& tensor, int64_t first, int64_t count,
                float* out);
// All of them.
inline void LoadFloats(const TensorView& tensor, float* out) {
  LoadFloats(tensor, 0, tensor.elements(), out);
}

// Whether the config.json of a checkpoint, which could be opened, says that it
// is quantised.
bool IsFp8Config(const Json& config);
// config.json of the same model when nothing in it is.
Json ConfigWithoutFp8(Json config);
// config.json of the same model when it has these tensors, some of them still
// FP8, if any was: "modules_to_not_convert" names, besides what it named, every
// matrix that is not. Programs that load such models take the list for complete
// where there is one.
Json ConfigWithFp8(Json config, const std::vector<TensorDecl>& tensors);

}  // namespace mobe
