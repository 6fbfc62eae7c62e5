#include "io/fp8.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "tensor/planes.h"

namespace mobe {
namespace {

constexpr char kConfigKey[] = "quantization_config";
constexpr char kPlainModules[] = "modules_to_not_convert";

int64_t Blocks(int64_t size, int64_t block) {
  return size / block + (size % block == 0 ? 0 : 1);
}

}  // namespace

std::string ScalesName(const std::string& tensor) {
  return tensor + "_scale_inv";
}

std::optional<BlockSize> ReadFp8Blocks(const ConfigReader& config) {
  if (!config.Has(kConfigKey)) return std::nullopt;
  const ConfigReader reader = config.Object(kConfigKey);
  constexpr char kRead[] =
      "of quantised models mobe reads FP8 (quant_method fp8, fmt e4m3) with "
      "scales of blocks (weight_block_size) and no static activation scales";
  const auto want = [&](const char* key, const char* value) {
    const std::string is = reader.String(key, value);
    if (is == value) return;
    Fail(ErrorKind::kUnsupported, "{}: {} {} can't be read; {}",
         reader.source(), key, Excerpt(is), kRead);
  };
  if (!reader.Has("quant_method")) {
    reader.Reject("quant_method", "\"fp8\"");
  }
  want("quant_method", "fp8");
  want("fmt", "e4m3");
  want("activation_scheme", "dynamic");
  if (!reader.Has("weight_block_size")) {
    Fail(ErrorKind::kUnsupported,
         "{}: no \"weight_block_size\": one scale for a tensor can't be read; "
         "{}",
         reader.source(), kRead);
  }
  const std::vector<int64_t> sizes = reader.Counts("weight_block_size");
  if (sizes.size() != 2 || std::ranges::count(sizes, 0) != 0) {
    reader.Reject("weight_block_size", "two integers, 1 or more");
  }
  // It says only that scales are powers of two, whatever their dtype.
  want("scale_fmt", "ue8m0");
  constexpr const char* kHarmless[] = {kPlainModules, "ignored_layers"};
  reader.RefuseOthers(kHarmless);
  return BlockSize{sizes[0], sizes[1]};
}

std::string CheckScales(const TensorDecl& matrix, const TensorDecl& scales,
                        const BlockSize& block) {
  if (matrix.shape.size() != 2) {
    return fmt::format("belongs to {} of shape {}, expected a matrix",
                       Excerpt(matrix.name), matrix.shape);
  }
  const std::vector<int64_t> shape = {Blocks(matrix.shape[0], block.rows),
                                      Blocks(matrix.shape[1], block.cols)};
  if (scales.shape != shape) {
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

void LoadFloats(const TensorView& tensor, int64_t first, int64_t count,
                float* out) {
  if (tensor.packed != nullptr) {
    return DecodePlanes(*tensor.packed, tensor.shape, tensor.data.data(),
                        tensor.scales->data.data(), first, count, out);
  }
  const auto* data = tensor.data.data() + first * DTypeSize(tensor.dtype);
  LoadAsFloats(tensor.dtype, data, count, out);
  if (tensor.scales == nullptr) return;
  const TensorView& scales = *tensor.scales;
  const int64_t cols = tensor.shape[1];
  while (count > 0) {
    const int64_t row = first / cols;
    const int64_t col = first % cols;
    const int64_t in_block = tensor.block.cols - col % tensor.block.cols;
    const int64_t run = std::min({in_block, cols - col, count});
    const float scale = LoadAsFloat(
        scales.dtype, scales.data.data(),
        row / tensor.block.rows * scales.shape[1] + col / tensor.block.cols);
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
  return config;
}

}  // namespace mobe
