// The part of Checkpoint that links the matrices which a publisher quantised to
// what belongs to them (io/quant_scheme.h).
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/checkpoint.h"
#include "io/fp8.h"
#include "io/quant_scheme.h"
#include "io/transposed_codes.h"

namespace mobe {
namespace {

// The numbers in a tensor of two integers; none of another.
std::vector<int64_t> ReadShape(const TensorView& sizes) {
  std::vector<int64_t> shape;
  if (sizes.elements() != 2 ||
      (sizes.dtype != DType::kI64 && sizes.dtype != DType::kI32)) {
    return shape;
  }
  const auto bytes = static_cast<size_t>(DTypeSize(sizes.dtype));
  for (size_t i = 0; i < 2; ++i) {
    int64_t size = 0;  // of either, since no size is negative
    std::memcpy(&size, sizes.data.data() + i * bytes, bytes);
    if (size < 1 || size > kMaxConfigSize) return {};
    shape.push_back(size);
  }
  return shape;
}

}  // namespace

void Checkpoint::LinkScales() {
  const auto scheme = ReadQuantScheme({config_, config_path()});
  if (scheme && scheme->in_words) UnpackWords(*scheme);
  if (scheme && scheme->transposed) LinkTransposed(*scheme);
  if (scheme && scheme->is_mxfp4 &&
      std::ranges::none_of(tensors_, [](const TensorView* tensor) {
        return tensor->name.ends_with(kMxBlocksEnding);
      })) {
    Fail(ErrorKind::kUnsupported,
         "{}: quantization_config: quant_method \"mxfp4\" can't be read of "
         "tensors that are not stacked experts (..._blocks)",
         config_path());
  }
  const bool in_bytes = scheme && scheme->code_bits == 8 && !scheme->in_words;
  for (SafetensorsFile& shard : shards_) {
    for (TensorView& tensor : shard.tensors()) {
      const bool codes = in_bytes && tensor.dtype == DType::kI8;
      const bool pairs =
          scheme && scheme->fp4_experts && tensor.dtype == DType::kI8;
      if (tensor.dtype != DType::kF8E4M3 && !codes && !pairs) continue;
      const TensorView* scales = FindScales(tensor.name);
      if (scales == nullptr) continue;
      if (tensor.shape.size() == 3) {
        Fail(ErrorKind::kUnsupported,
             "{}: tensor {}: FP8 matrices stacked in one tensor can't be read",
             FileOf(tensor), Excerpt(tensor.name));
      }
      if (!scheme) {
        Fail(ErrorKind::kCorruptFile,
             "{}: no \"quantization_config\", which says what blocks the "
             "scales of tensor {} are of",
             config_path(), Excerpt(tensor.name));
      }
      QuantScheme own = *scheme;
      if (codes) tensor.code_bits = scheme->code_bits;
      if (pairs) {
        SplitPairs(&tensor);
        own.block = {1, kMxBlock};
      }
      LinkScales(own, *scales, &tensor);
    }
  }
}

void Checkpoint::SplitPairs(TensorView* matrix) const {
  if (matrix->shape.size() != 2 || matrix->shape[1] > kMaxConfigSize) {
    Fail(ErrorKind::kCorruptFile,
         "{}: tensor {} has shape {}, expected a matrix of FP4, two numbers in "
         "a byte",
         FileOf(*matrix), Excerpt(matrix->name), matrix->shape);
  }
  matrix->shape[1] *= 2;
  matrix->code_bits = 4;
  matrix->is_fp4 = true;
  matrix->row_stride = matrix->shape[1];
  matrix->col_stride = 1;
}

const TensorView* Checkpoint::FindScales(const std::string& name) const {
  for (const char* ending : kScalesEndings) {
    if (const TensorView* scales = Find(name + ending)) return scales;
  }
  // DeepSeek-V4's X.scale of X.weight.
  constexpr std::string_view kWeight = ".weight";
  if (!name.ends_with(kWeight)) return nullptr;
  return Find(name.substr(0, name.size() - kWeight.size()) + ".scale");
}

void Checkpoint::LinkScales(const QuantScheme& scheme, const TensorView& scales,
                            TensorView* matrix) {
  const bool said = scheme.block.rows != 0;
  BlockSize block = scheme.block;
  if (!said && matrix->shape.size() == 2) block = BlockOf(*matrix, scales);
  const std::string fault = CheckScales(*matrix, scales, block);
  if (!fault.empty()) {
    Fail(ErrorKind::kCorruptFile, "{}: tensor {} {}", FileOf(scales),
         Excerpt(scales.name), fault);
  }
  matrix->scales = &scales;
  matrix->block = block;
  SetScaled(scales, *matrix);
}

// Puts a matrix X.weight in the place of X.weight_packed [rows, words of a row]
// and X.weight_shape, which says how many columns the words hold.
void Checkpoint::UnpackWords(const QuantScheme& scheme) {
  constexpr std::string_view kPacked = "_packed";
  // By place: a trillion parameters are seventy thousand such matrices, and
  // Split looks for each.
  for (const TensorView*& place : tensors_) {
    const TensorView* words = place;
    if (!words->name.ends_with(kPacked)) continue;
    const std::string name =
        words->name.substr(0, words->name.size() - kPacked.size());
    const TensorView& sizes = At(name + "_shape");
    const TensorView& scales = At(name + "_scale");
    for (const char* other : {"_g_idx", "_zero_point"}) {
      if (Find(name + other) == nullptr) continue;
      Fail(ErrorKind::kUnsupported,
           "{}: tensor {}{}: only symmetric groups of adjacent columns can be "
           "read",
           FileOf(*words), Excerpt(name), other);
    }
    TensorView matrix = *words;
    matrix.name = name;
    matrix.code_bits = scheme.code_bits;
    matrix.shape = ReadShape(sizes);
    const int64_t in_word = 32 / scheme.code_bits;
    const bool fits = words->dtype == DType::kI32 && words->shape.size() == 2 &&
                      matrix.shape.size() == 2 &&
                      matrix.shape[0] == words->shape[0] &&
                      matrix.shape[1] <= words->shape[1] * in_word &&
                      matrix.shape[1] > (words->shape[1] - 1) * in_word;
    if (!fits) {
      Fail(ErrorKind::kCorruptFile,
           "{}: tensor {} is {} of shape {}, expected I32, {} numbers of shape "
           "{} in each",
           FileOf(*words), Excerpt(words->name), DTypeName(words->dtype),
           words->shape, in_word, matrix.shape);
    }
    by_name_.erase(words->name);
    TensorView& linked = Adopt(words->name, std::move(matrix));
    place = &linked;
    LinkScales(scheme, scales, &linked);
    SetScaled(sizes, linked);
  }
}

// Puts a matrix X.weight in the place of X.qweight.
void Checkpoint::LinkTransposed(const QuantScheme& scheme) {
  constexpr std::string_view kWords = "qweight";
  const int64_t in_word = CodesInWord(scheme.code_bits);
  for (const TensorView*& place : tensors_) {
    const TensorView* words = place;
    if (!words->name.ends_with(kWords)) continue;
    const std::string module =
        words->name.substr(0, words->name.size() - kWords.size());
    const bool fits = words->dtype == DType::kI32 && words->shape.size() == 2 &&
                      std::ranges::all_of(words->shape, [](int64_t size) {
                        return size >= 1 && size <= kMaxConfigSize;
                      });
    if (!fits) {
      Fail(ErrorKind::kCorruptFile,
           "{}: tensor {} is {} of shape {}, expected a matrix of I32",
           FileOf(*words), Excerpt(words->name), DTypeName(words->dtype),
           words->shape);
    }
    TensorView matrix = *words;
    matrix.name = module + "weight";
    matrix.code_bits = scheme.code_bits;
    matrix.shape = {words->shape[1], words->shape[0]};
    const bool awq = *scheme.transposed == CodesOrder::kAwq;
    matrix.shape[awq ? 0 : 1] *= in_word;
    const TransposedCodes& codes =
        transposed_.emplace_back(CodesOf(scheme, *words, module, matrix.shape));
    matrix.transposed = &codes;
    matrix.scales = codes.scales;
    by_name_.erase(words->name);
    TensorView& linked = Adopt(words->name, std::move(matrix));
    place = &linked;
    for (const TensorView* part : {codes.zeros, codes.scales, codes.groups}) {
      if (part != nullptr) SetScaled(*part, linked);
    }
    // AutoGPTQ gave every matrix a bias, zeros where the model has none.
    const TensorView* bias = Find(module + "bias");
    if (bias != nullptr && std::ranges::all_of(bias->data, [](std::byte byte) {
          return byte == std::byte{0};
        })) {
      SetScaled(*bias, linked);
    }
  }
}

// What belongs to the words of a matrix of this shape, whose names begin with
// `module`.
TransposedCodes Checkpoint::CodesOf(const QuantScheme& scheme,
                                    const TensorView& words,
                                    const std::string& module,
                                    const std::vector<int64_t>& shape) const {
  const int64_t in_word = CodesInWord(scheme.code_bits);
  const int64_t rows = shape[0];
  const int64_t cols = shape[1];
  TransposedCodes codes;
  codes.order = *scheme.transposed;
  codes.zeros_less_one = scheme.zeros_less_one;
  codes.group_cols = scheme.block.cols == 0 ? cols : scheme.block.cols;
  codes.zeros = &At(module + "qzeros");
  codes.scales = &At(module + "scales");
  const int64_t groups = (cols + codes.group_cols - 1) / codes.group_cols;
  if (rows % in_word != 0) {
    Fail(ErrorKind::kUnsupported,
         "{}: tensor {} has {} rows, and zeros can be read of multiples of {}",
         FileOf(words), Excerpt(words.name), rows, in_word);
  }
  CheckPlane(*codes.zeros, DType::kI32, {groups, rows / in_word});
  const DType scales = codes.scales->dtype;
  const bool wide = IsFloat(scales) && DTypeSize(scales) >= 2;
  CheckPlane(*codes.scales, wide ? scales : DType::kF16, {groups, rows});
  if (codes.order == CodesOrder::kGptq) codes.groups = Find(module + "g_idx");
  if (codes.groups != nullptr) CheckPlane(*codes.groups, DType::kI32, {cols});
  return codes;
}

// Scales are in a shard, of which this object is the owner.
void Checkpoint::SetScaled(const TensorView& scales, const TensorView& matrix) {
  const_cast<TensorView&>(scales).scaled = &matrix;
}

}  // namespace mobe
