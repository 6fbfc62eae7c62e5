#include "io/quant_scheme.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace mobe {
namespace {

constexpr char kRead[] =
    "of quantised models mobe reads FP8 (E4M3), gpt-oss's MXFP4 and "
    "compressed-tensors' int8 and int4, symmetric and without static "
    "activation scales";

[[noreturn]] void Refuse(const ConfigReader& reader, const char* key) {
  Fail(ErrorKind::kUnsupported, "{}: {} {} can't be read; {}", reader.source(),
       key, Excerpt(reader.Value(key)), kRead);
}

void Want(const ConfigReader& reader, const char* key, const Json& value) {
  const Json& is = reader.Value(key);
  if (!is.is_null() && is != value) Refuse(reader, key);
}

BlockSize ReadBlock(const ConfigReader& reader, const char* key) {
  if (!reader.Has(key)) return {};
  const std::vector<int64_t> sizes = reader.Counts(key);
  if (sizes.size() != 2 || std::ranges::count(sizes, 0) != 0) {
    reader.Reject(key, "two integers, 1 or more");
  }
  return {sizes[0], sizes[1]};
}

QuantScheme ReadFp8(const ConfigReader& reader) {
  Want(reader, "fmt", "e4m3");
  Want(reader, "activation_scheme", "dynamic");
  // It says only that scales are powers of two, whatever their dtype.
  Want(reader, "scale_fmt", "ue8m0");
  QuantScheme scheme;
  scheme.is_fp8_method = true;
  scheme.block = ReadBlock(reader, "weight_block_size");
  constexpr const char* kHarmless[] = {"quant_method", "modules_to_not_convert",
                                       "ignored_layers"};
  reader.RefuseOthers(kHarmless);
  return scheme;
}

// One group's "weights".
QuantScheme ReadWeights(const ConfigReader& reader, const std::string& format) {
  const bool is_float =
      format == "float-quantized" ||
      (format == "naive-quantized" && reader.String("type", "int") == "float");
  Want(reader, "symmetric", true);
  Want(reader, "dynamic", false);
  Want(reader, "type", is_float ? "float" : "int");
  const int64_t bits = reader.Size("num_bits");
  QuantScheme scheme;
  scheme.in_words = format == "pack-quantized";
  if (bits != 8 && !(bits == 4 && scheme.in_words)) {
    Refuse(reader, "num_bits");
  }
  if (!is_float) scheme.code_bits = static_cast<int>(bits);
  scheme.block = ReadBlock(reader, "block_structure");
  if (reader.Has("group_size")) {
    scheme.block = {1, reader.Size("group_size")};
  }
  return scheme;
}

QuantScheme ReadCompressedTensors(const ConfigReader& reader) {
  const std::string format = reader.String("format", "");
  constexpr const char* kFormats[] = {"float-quantized", "int-quantized",
                                      "naive-quantized", "pack-quantized"};
  if (std::ranges::find(kFormats, format) == std::end(kFormats)) {
    Refuse(reader, "format");
  }
  for (const char* key : {"sparsity_config", "transform_config"}) {
    const Json& value = reader.Value(key);
    if (!value.empty() && value != Json{{"format", "dense"}}) {
      Refuse(reader, key);
    }
  }
  const ConfigReader groups = reader.Object("config_groups");
  std::optional<QuantScheme> scheme;
  for (const auto& [name, unused] : groups.json().items()) {
    const ConfigReader group = groups.Object(name.c_str());
    const QuantScheme found = ReadWeights(group.Object("weights"), format);
    const auto same = [&](const QuantScheme& other) {
      return found.code_bits == other.code_bits &&
             found.block.rows == other.block.rows &&
             found.block.cols == other.block.cols;
    };
    if (scheme && !same(*scheme)) Refuse(reader, "config_groups");
    scheme = found;
  }
  if (!scheme) reader.Reject("config_groups", "a group with \"weights\"");
  return *scheme;
}

}  // namespace

std::optional<QuantScheme> ReadQuantScheme(const ConfigReader& config) {
  constexpr char kKey[] = "quantization_config";
  if (!config.Has(kKey)) return std::nullopt;
  const ConfigReader reader = config.Object(kKey);
  if (!reader.Has("quant_method")) {
    reader.Reject("quant_method", "\"fp8\" or \"compressed-tensors\"");
  }
  const std::string method = reader.String("quant_method", "");
  if (method == "fp8") return ReadFp8(reader);
  if (method == "mxfp4") {
    QuantScheme scheme;
    scheme.is_mxfp4 = true;
    return scheme;
  }
  if (method == "compressed-tensors") return ReadCompressedTensors(reader);
  Refuse(reader, "quant_method");
}

}  // namespace mobe
