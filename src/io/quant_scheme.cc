#include "io/quant_scheme.h"

#include <algorithm>
#include <cctype>
#include <string>

#include "base/error.h"

namespace mobe {
namespace {

constexpr char kRead[] =
    "of quantised models mobe reads FP8 (E4M3), gpt-oss's and DeepSeek-V4's "
    "MXFP4, AWQ of "
    "version gemm, GPTQ of 4 or 8 bits, and compressed-tensors' int8 and int4, "
    "symmetric and without static activation scales";

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

// Published beside "quantization_config", and within it by transformers 5.
bool HasFp4Experts(const ConfigReader& reader) {
  const std::string dtype = reader.String(kExpertDType, "fp8");
  if (dtype != "fp4" && dtype != "fp8") Refuse(reader, kExpertDType);
  return dtype == "fp4";
}

QuantScheme ReadFp8(const ConfigReader& reader) {
  // MiniMax-M2 calls it as torch does.
  if (reader.Value("fmt") != "float8_e4m3fn") Want(reader, "fmt", "e4m3");
  Want(reader, "activation_scheme", "dynamic");
  // It says only that scales are powers of two, whatever their dtype.
  Want(reader, "scale_fmt", "ue8m0");
  QuantScheme scheme;
  scheme.is_fp8_method = true;
  scheme.block = ReadBlock(reader, "weight_block_size");
  scheme.fp4_experts = HasFp4Experts(reader);
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

// What the programs that write both note, beside how the numbers are stored. Of
// zeros and groups the tensors tell, whatever "sym" and "desc_act" say.
constexpr const char* kNotes[] = {
    // AutoGPTQ, GPTQModel
    "method", "sym", "desc_act", "static_groups", "true_sequential",
    "damp_percent", "damp_auto_increment", "mse", "act_group_aware",
    "model_name_or_path", "model_file_base_name", "lm_head", "meta",
    // AutoAWQ
    "zero_point", "modules_to_not_convert",
    // transformers
    "tokenizer", "dataset", "use_cuda_fp16", "model_seqlen",
    "block_name_to_quantize", "module_name_preceding_first_block", "batch_size",
    "pad_token_id", "use_exllama", "disable_exllama", "exllama_config",
    "max_input_length", "cache_block_outputs", "modules_in_block_to_quantize",
    "do_fuse", "fuse_max_seq_len", "modules_to_fuse"};

// What differs for some modules: those of a pattern with "-:" are not
// quantised, which their tensors tell.
void CheckDynamic(const ConfigReader& reader) {
  const Json& dynamic = reader.Value("dynamic");
  if (dynamic.empty()) return;
  const auto is_left_out = [](const auto& entry) {
    return entry.key().starts_with("-:");
  };
  const auto items = dynamic.items();
  if (!dynamic.is_object() ||
      !std::all_of(items.begin(), items.end(), is_left_out)) {
    Refuse(reader, "dynamic");
  }
}

// Either has the name of its layout under several keys.
QuantScheme ReadTransposed(const ConfigReader& reader, CodesOrder order) {
  const bool awq = order == CodesOrder::kAwq;
  QuantScheme scheme;
  scheme.transposed = order;
  scheme.zeros_less_one = !awq;
  for (const char* key : {"version", "format", "checkpoint_format"}) {
    std::string layout = reader.String(key, "");
    for (char& c : layout) c = static_cast<char>(std::tolower(c));  // "GEMM"
    if (layout == "gptq_v2" && !awq) {
      scheme.zeros_less_one = false;
    } else if (!layout.empty() && layout != (awq ? "gemm" : "gptq")) {
      Refuse(reader, key);
    }
  }
  const int64_t bits = reader.Size("bits");
  if (bits != 4 && !(bits == 8 && !awq)) Refuse(reader, "bits");
  scheme.code_bits = static_cast<int>(bits);
  // -1: all columns are one group.
  const bool grouped = reader.Value("group_size") != -1;
  scheme.block = {1, grouped ? reader.Size("group_size") : 0};
  Want(reader, "pack_dtype", "int32");
  if (reader.String("backend", "") == "llm-awq") Refuse(reader, "backend");
  CheckDynamic(reader);
  reader.RefuseOthers(kNotes);
  return scheme;
}

}  // namespace

std::optional<QuantScheme> ReadQuantScheme(const ConfigReader& config) {
  constexpr char kKey[] = "quantization_config";
  if (!config.Has(kKey)) {
    // Kimi-K2.5's is of the part that reads text.
    constexpr char kInside[] = "text_config";
    return config.Has(kInside) ? ReadQuantScheme(config.Object(kInside))
                               : std::nullopt;
  }
  const ConfigReader reader = config.Object(kKey);
  if (!reader.Has("quant_method")) {
    reader.Reject("quant_method",
                  "\"fp8\", \"compressed-tensors\", \"awq\" or \"gptq\"");
  }
  const std::string method = reader.String("quant_method", "");
  if (method == "fp8") {
    QuantScheme scheme = ReadFp8(reader);
    if (HasFp4Experts(config)) scheme.fp4_experts = true;
    return scheme;
  }
  if (method == "mxfp4") {
    QuantScheme scheme;
    scheme.is_mxfp4 = true;
    return scheme;
  }
  if (method == "awq") return ReadTransposed(reader, CodesOrder::kAwq);
  if (method == "gptq") return ReadTransposed(reader, CodesOrder::kGptq);
  if (method == "compressed-tensors") return ReadCompressedTensors(reader);
  Refuse(reader, "quant_method");
}

}  // namespace mobe
