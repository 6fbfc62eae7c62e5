#include "io/fp8.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"
#include "io/quant_scheme.h"
#include "io/transposed_codes.h"
#include "tensor/planes.h"

namespace mobe {
namespace {

constexpr char kConfigKey[] = "quantization_config";
constexpr char kTextConfig[] = "text_config";
constexpr char kPlainModules[] = "modules_to_not_convert";

int64_t Blocks(int64_t size, int64_t block) {
  return size / block + (size % block == 0 ? 0 : 1);
}

std::vector<int64_t> WithoutEndingOnes(std::vector<int64_t> shape) {
  while (!shape.empty() && shape.back() == 1) shape.pop_back();
  return shape;
}

}  // namespace

BlockSize BlockOf(const TensorDecl& matrix, const TensorDecl& scales) {
  const int64_t rows = matrix.shape[0];
  const bool by_row = scales.elements() == rows && rows > 1;
  return {by_row ? 1 : rows, std::max<int64_t>(matrix.shape[1], 1)};
}

int64_t ScaleStride(const TensorView& matrix) {
  const int64_t cols =
      matrix.row_stride != 0 ? matrix.row_stride : matrix.shape[1];
  return Blocks(cols, matrix.block.cols);
}

std::string CheckScales(const TensorDecl& matrix, const TensorDecl& scales,
                        const BlockSize& block) {
  if (matrix.shape.size() != 2) {
    return fmt::format("belongs to {} of shape {}, expected a matrix",
                       Excerpt(matrix.name), matrix.shape);
  }
  const std::vector<int64_t> shape = {Blocks(matrix.shape[0], block.rows),
                                      Blocks(matrix.shape[1], block.cols)};
  // One a row may be a list, one in all may be a number.
  if (WithoutEndingOnes(scales.shape) != WithoutEndingOnes(shape)) {
    return fmt::format(
        "has shape {}, expected {}: one for each block of {} x {} of {}",
        scales.shape, shape, block.rows, block.cols, Excerpt(matrix.name));
  }
  if (!IsFloat(scales.dtype) || scales.dtype == DType::kF8E4M3) {
    return fmt::format("has dtype {}, expected F32, F16, BF16 or F8_E8M0",
                       DTypeName(scales.dtype));
  }
  return "";
}

namespace {

// The codes of integers, as floats around 0.
void LoadCodes(const TensorView& tensor, int64_t first, int64_t count,
               float* out) {
  if (tensor.dtype == DType::kI8) {
    const auto* codes = reinterpret_cast<const int8_t*>(tensor.data.data());
    std::copy_n(codes + first, count, out);
    return;
  }
  constexpr int64_t kWordBits = 32;
  const int64_t cols = tensor.shape[1];
  const int64_t in_word = kWordBits / tensor.code_bits;
  const int64_t row_words = Blocks(cols, in_word);
  const uint32_t mask = (uint32_t{1} << tensor.code_bits) - 1;
  const auto middle = static_cast<float>(1 << (tensor.code_bits - 1));
  for (int64_t i = first; i < first + count; ++i) {
    const int64_t col = i % cols;
    const int64_t at = i / cols * row_words + col / in_word;
    uint32_t word = 0;
    std::memcpy(&word, tensor.data.data() + at * 4, sizeof(word));
    const auto shift = col % in_word * tensor.code_bits;
    *out++ = static_cast<float>(word >> shift & mask) - middle;
  }
}

// Numbers that lie apart.
void LoadStrided(const TensorView& tensor, int64_t first, int64_t count,
                 float* out) {
  constexpr float kE2M1[] = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                             -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
  const int64_t cols = tensor.shape[1];
  const std::byte* data = tensor.data.data();
  for (int64_t i = first; i < first + count; ++i) {
    const int64_t at =
        i / cols * tensor.row_stride + i % cols * tensor.col_stride;
    if (tensor.is_fp4) {
      const auto pair = static_cast<unsigned>(data[at / 2]);
      *out++ = kE2M1[(at % 2 == 0 ? pair : pair >> 4) & 15];
    } else {
      *out++ = LoadAsFloat(tensor.dtype, data, at);
    }
  }
}

}  // namespace

void LoadFloats(const TensorView& tensor, int64_t first, int64_t count,
                float* out) {
  if (tensor.packed != nullptr) {
    return DecodePlanes(*tensor.packed, tensor.shape, tensor.data.data(),
                        tensor.scales->data.data(), first, count, out);
  }
  if (tensor.transposed != nullptr) {
    return LoadTransposed(tensor, first, count, out);
  }
  if (tensor.row_stride != 0) {
    LoadStrided(tensor, first, count, out);
  } else if (tensor.code_bits != 0) {
    LoadCodes(tensor, first, count, out);
  } else {
    const auto* data = tensor.data.data() + first * DTypeSize(tensor.dtype);
    LoadAsFloats(tensor.dtype, data, count, out);
  }
  if (tensor.scales == nullptr) return;
  const TensorView& scales = *tensor.scales;
  const int64_t cols = tensor.shape[1];
  const int64_t stride = ScaleStride(tensor);
  while (count > 0) {
    const int64_t row = first / cols;
    const int64_t col = first % cols;
    const int64_t in_block = tensor.block.cols - col % tensor.block.cols;
    const int64_t run = std::min({in_block, cols - col, count});
    const float scale =
        LoadAsFloat(scales.dtype, scales.data.data(),
                    row / tensor.block.rows * stride + col / tensor.block.cols);
    for (int64_t i = 0; i < run; ++i) out[i] *= scale;
    first += run;
    count -= run;
    out += run;
  }
}

bool IsFp8Config(const Json& config) {
  return config.contains(kConfigKey) && !config[kConfigKey].is_null();
}

Json ConfigWithoutFp8(Json config) {
  config.erase(kConfigKey);
  config.erase(kExpertDType);
  const auto text = config.find(kTextConfig);
  if (text != config.end() && text->is_object()) text->erase(kConfigKey);
  return config;
}

Json ConfigWithFp8(Json config, const std::vector<TensorDecl>& tensors) {
  if (!IsFp8Config(config)) return config;
  Json& quantization = config[kConfigKey];
  const Json before = quantization.value(kPlainModules, Json());
  std::set<Json> named;
  if (before.is_array()) named.insert(before.begin(), before.end());
  constexpr std::string_view kEnding = ".weight";
  for (const TensorDecl& tensor : tensors) {
    if (tensor.dtype == DType::kF8E4M3 || tensor.shape.size() != 2 ||
        !tensor.name.ends_with(kEnding)) {
      continue;
    }
    named.insert(tensor.name.substr(0, tensor.name.size() - kEnding.size()));
  }
  quantization[kPlainModules] = named;
  // Experts in FP4 are written in BF16.
  quantization.erase(kExpertDType);
  config.erase(kExpertDType);
  return config;
}

}  // namespace mobe
