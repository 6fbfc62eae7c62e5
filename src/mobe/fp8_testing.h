// FP8 checkpoints made of the fixtures, for tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "io/fp8.h"
#include "mobe/testing.h"

namespace mobe {

inline std::string ScalesName(const std::string& matrix) {
  return matrix + kScalesEndings[0];
}

// The nearest of finite magnitude.
inline Float8 NearestFloat8(float value) {
  int best = 0;
  for (int bits = 1; bits < 0x7f; ++bits) {
    const auto off = [&](int candidate) {
      return std::abs(ToFloat(Float8{static_cast<uint8_t>(candidate)}) -
                      std::abs(value));
    };
    if (off(bits) >= off(best)) break;  // they ascend
    best = bits;
  }
  return {static_cast<uint8_t>(best | (std::signbit(value) ? 0x80 : 0))};
}

// A matrix in FP8, its scales, and the values that they stand for.
struct QuantizedTensor {
  LooseTensor stored, scales, values;
};

inline QuantizedTensor Quantize(const LooseTensor& tensor, BlockSize block,
                                DType scales_dtype) {
  const int64_t rows = tensor.shape[0];
  const int64_t cols = tensor.shape[1];
  const int64_t stride = (cols + block.cols - 1) / block.cols;
  const int64_t high = (rows + block.rows - 1) / block.rows;
  std::vector<float> values(static_cast<size_t>(rows * cols));
  LoadAsFloats(tensor.dtype, tensor.data.data(), rows * cols, values.data());
  std::vector<float> scales(static_cast<size_t>(high * stride), 0);
  const auto scale_of = [&](int64_t i) -> float& {
    return scales[static_cast<size_t>(i / cols / block.rows * stride +
                                      i % cols / block.cols)];
  };
  for (int64_t i = 0; i < rows * cols; ++i) {
    float& scale = scale_of(i);
    scale = std::max(scale, std::abs(values[static_cast<size_t>(i)]) / 448);
  }
  QuantizedTensor result;
  result.scales = {{ScalesName(tensor.name), scales_dtype, {high, stride}}, {}};
  result.scales.data.resize(static_cast<size_t>(result.scales.bytes()));
  StoreFloats(scales.data(), high * stride, scales_dtype,
              result.scales.data.data());
  LoadAsFloats(scales_dtype, result.scales.data.data(), high * stride,
               scales.data());
  result.stored = {{tensor.name, DType::kF8E4M3, tensor.shape}, {}};
  for (int64_t i = 0; i < rows * cols; ++i) {
    float& value = values[static_cast<size_t>(i)];
    const float scale = scale_of(i);
    const Float8 stored = NearestFloat8(scale > 0 ? value / scale : 0);
    value = scale * ToFloat(stored);
    result.stored.data.push_back(std::byte{stored.bits});
  }
  result.values = {{tensor.name, DType::kF32, tensor.shape}, {}};
  result.values.data.resize(static_cast<size_t>(rows * cols * 4));
  StoreFloats(values.data(), rows * cols, DType::kF32,
              result.values.data.data());
  return result;
}

struct Fp8Options {
  // No divisor of the matrices of SmallModel.
  BlockSize block = {24, 40};
  DType scales = DType::kF32;
};

// Writes the small model to `fp8` with the matrices in FP8 that published
// checkpoints have in it (not embedding, head and routers), and one more
// outside the family's table; and to `values` the same numbers in float32.
inline void WriteFp8Model(const std::filesystem::path& fp8,
                          const std::filesystem::path& values,
                          const Fp8Options& options = {}) {
  for (const auto& folder : {fp8, values}) {
    std::filesystem::create_directories(folder);
    for (const char* file : {"config.json", "tokenizer.json"}) {
      std::filesystem::copy_file(SmallModel() / file, folder / file);
    }
  }
  Json config = ReadConfig(fp8);
  config["quantization_config"] = {
      {"quant_method", "fp8"},
      {"fmt", "e4m3"},
      {"activation_scheme", "dynamic"},
      {"weight_block_size", {options.block.rows, options.block.cols}}};
  WriteConfig(fp8, config);

  std::vector<LooseTensor> stored;
  std::vector<LooseTensor> plain;
  const auto add = [&](const LooseTensor& tensor) {
    const bool matrix =
        tensor.name.ends_with("_proj.weight") && tensor.shape.size() == 2;
    if (!matrix) {
      stored.push_back(tensor);
      plain.push_back(tensor);
      return;
    }
    QuantizedTensor q = Quantize(tensor, options.block, options.scales);
    stored.push_back(std::move(q.stored));
    stored.push_back(std::move(q.scales));
    plain.push_back(std::move(q.values));
  };
  for (const char* file :
       {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors"}) {
    for (const LooseTensor& tensor : ReadTensors(SmallModel() / file)) {
      add(tensor);
    }
  }
  // As of a layer for multi-token prediction.
  LooseTensor extra = TensorOf(plain, "model.layers.0.mlp.up_proj.weight");
  extra.name = "mtp.layers.0.mlp.up_proj.weight";
  add(extra);
  WriteTensors(fp8 / "model.safetensors", stored);
  WriteTensors(values / "model.safetensors", plain);
}

}  // namespace mobe
