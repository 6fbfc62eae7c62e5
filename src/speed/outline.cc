#include "speed/outline.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "io/fp8.h"
#include "io/hub.h"
#include "mobe/open_model.h"
#include "mobe/parts.h"
#include "tensor/planes.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

constexpr char kConfigName[] = "config.json";
constexpr char kWeightsName[] = "model.safetensors";
constexpr char kIndexName[] = "model.safetensors.index.json";

Json ReadObject(const fs::path& path) {
  Json json = ParseJson(ReadSmallFile(path), path.string());
  if (!json.is_object()) {
    Fail(ErrorKind::kCorruptFile, "{}: is {}, expected an object",
         path.string(), Excerpt(json));
  }
  return json;
}

// The weight map of the index; an empty object when there is none.
Json ReadMap(const fs::path& folder) {
  if (!IsFile(folder / kIndexName)) return Json::object();
  const Json index = ReadObject(folder / kIndexName);
  const auto found = index.find("weight_map");
  return found != index.end() && found->is_object() ? *found : Json::object();
}

// Those that the folder should have, or nothing when one of them is missing.
std::vector<fs::path> FindShards(const fs::path& folder, const Json& map) {
  if (IsFile(folder / kWeightsName)) return {folder / kWeightsName};
  std::set<std::string> names;
  for (const Json& file : map) {
    if (file.is_string()) names.insert(file.get<std::string>());
  }
  std::vector<fs::path> shards;
  for (const std::string& name : names) {
    if (!IsFile(folder / name)) return {};
    shards.push_back(folder / name);
  }
  return shards;
}

int64_t BytesOf(const TensorSpec& spec, DType dtype) {
  int64_t elements = 1;
  for (const int64_t dim : spec.shape) elements *= dim;
  const MatrixKind* kind = KindOf(spec.role);
  const bool as_float = spec.shape.size() < 2 || spec.role == Role::kRouter ||
                        spec.role == Role::kDeltaConvolution ||
                        (kind != nullptr && spec.role == kind->alpha) ||
                        (dtype == DType::kF16 && spec.shape.size() > 2);
  return elements * DTypeSize(as_float ? DType::kF32 : dtype);
}

Outline OutlineOf(const OpenedModel& model, std::vector<fs::path> shards) {
  Outline outline = {model.family, model.config,           model.mobe,
                     {},           CountOperations(model), std::move(shards)};
  for (const TensorSpec& spec : model.tensors) {
    const TensorView& tensor = model.checkpoint.At(spec.name);
    const auto packed = [&] {
      return static_cast<int64_t>(tensor.data.size() +
                                  tensor.scales->data.size());
    };
    outline.tensors.push_back(
        {spec, tensor.packed ? packed() : BytesOf(spec, tensor.dtype),
         tensor.packed});
  }
  return outline;
}

// As the key "dtype" (transformers 5) or "torch_dtype" says.
DType ReadDType(const ConfigReader& reader) {
  const bool is_inside = !reader.Has("dtype") && !reader.Has("torch_dtype") &&
                         reader.Has("text_config");
  if (is_inside) return ReadDType(reader.Object("text_config"));
  struct Row {
    const char* name;
    DType dtype;
  };
  constexpr Row kRows[] = {{"bfloat16", DType::kBF16},
                           {"float16", DType::kF16},
                           {"float32", DType::kF32}};
  const char* key = reader.OneOf({"dtype", "torch_dtype"});
  const std::string name = reader.String(key, "bfloat16");
  for (const Row& row : kRows) {
    if (name == row.name) return row.dtype;
  }
  reader.Reject(key, "bfloat16, float16 or float32");
}

// What an FP8 checkpoint has in FP8: every matrix of the layers but routers
// and what was factored.
bool IsInFp8(const TensorSpec& spec, const Outline& outline) {
  const MatrixKind* kind = KindOf(spec.role);
  return spec.layer >= 0 && spec.shape.size() == 2 &&
         spec.role != Role::kRouter &&
         (kind == nullptr || !outline.mobe ||
          outline.mobe->Find(spec.layer, *kind) == nullptr);
}

// How a model without tensors is factored: DetectFormat's answer, which asks
// the tensors, as far as config.json and the index know it.
std::optional<MobeFormat> FormatOf(const Family& family,
                                   const ConfigReader& reader, const Json& map,
                                   const ModelConfig& config) {
  if (reader.Has("mobe")) {
    const ConfigReader mobe = reader.Object("mobe");
    if (IsOnlyPacked(mobe)) return std::nullopt;
    return ReadTable(mobe, config);
  }
  if (!reader.Has("num_B")) return std::nullopt;
  MobeFormat format;
  const auto activation =
      ActivationFromName(reader.String("activation", "silu"));
  if (!activation) reader.Reject("activation", "silu, tanh or identity");
  format.activation = *activation;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (!config.IsMoeLayer(layer)) continue;
    for (const MatrixKind* kind : {&kGateKind, &kUpKind}) {
      const int64_t groups =
          map.contains(BasesName(family, layer, *kind, 0)) ? 2 : 1;
      format.factors.push_back(
          {layer, kind, reader.Size("num_B"), config.expert_size, 0, groups});
    }
  }
  return format;
}

// Which tensors of a model without weights are packed, and how: as the index
// names them; without their names there, as quantize packs all parts in the
// smallest of the formats that config.json lists.
class PackedFormats {
 public:
  PackedFormats(const ConfigReader& reader, const Json& map,
                const std::vector<TensorSpec>& specs)
      : map_(map) {
    if (!reader.Has("mobe")) return;
    const ConfigReader mobe = reader.Object("mobe");
    if (!mobe.Has("packed")) return;
    for (const Json& name : mobe.Value("packed")) {
      const FormatRow* format =
          name.is_string() ? FormatFromName(name.get<std::string>()) : nullptr;
      if (format == nullptr || !format->packed()) {
        mobe.Reject("packed", "a list of formats, as [\"int4\", \"int8\"]");
      }
      formats_.push_back(format);
    }
    by_names_ = std::ranges::any_of(specs, [&](const TensorSpec& spec) {
      return NamedIn(spec) != nullptr;
    });
  }

  // Null when it is not packed.
  const FormatRow* Of(const TensorSpec& spec) const {
    if (by_names_) return NamedIn(spec);
    if (formats_.empty()) return nullptr;
    return FormatFor(
        spec, {*std::ranges::min_element(formats_, {}, &FormatRow::bits), {}});
  }

 private:
  const FormatRow* NamedIn(const TensorSpec& spec) const {
    for (const FormatRow* format : formats_) {
      if (map_.contains(PackedName(spec.name, *format)) &&
          PlaneShapesOf(*format, spec.shape)) {
        return format;
      }
    }
    return nullptr;
  }

  const Json& map_;
  std::vector<const FormatRow*> formats_;
  bool by_names_ = false;
};

// Without tensors nothing bounds what a hostile config can make us list.
void CheckCounts(const ConfigReader& reader, const ModelConfig& config) {
  constexpr int64_t kMostExperts = int64_t{1} << 20;  // Kimi-K2: 23,040
  if (config.num_layers <= kMostExperts &&
      std::max<int64_t>(config.num_experts, 1) <=
          kMostExperts / config.num_layers) {
    return;
  }
  Fail(ErrorKind::kUnsupported,
       "{}: {} layers of {} experts are more than any model has",
       reader.source(), config.num_layers, config.num_experts);
}

Outline OutlineOf(const fs::path& folder, const Json& map) {
  const fs::path path = folder / kConfigName;
  const Json json = ReadObject(path);
  const ConfigReader reader(json, path.string());
  Outline outline;
  outline.family = &FamilyOf(reader);
  CheckRuns(*outline.family, folder.string());
  outline.config = outline.family->read_config(reader);
  CheckCounts(reader, outline.config);
  outline.mobe = FormatOf(*outline.family, reader, map, outline.config);
  const DType dtype = ReadDType(reader);
  const auto scheme = ReadQuantScheme(reader);
  const bool fp8 = scheme && scheme->code_bits == 0;
  std::vector<TensorSpec> specs =
      outline.mobe ? ListTensors(*outline.family, outline.config, *outline.mobe)
                   : ListTensors(*outline.family, outline.config);
  const PackedFormats packed(reader, map, specs);
  for (TensorSpec& spec : specs) {
    if (const FormatRow* format = packed.Of(spec)) {
      const int64_t bytes = PlaneBytes(*format, spec.shape);
      outline.tensors.push_back({std::move(spec), bytes, format});
      continue;
    }
    const bool in_fp8 = fp8 && IsInFp8(spec, outline);
    const int64_t bytes = BytesOf(spec, in_fp8 ? DType::kF8E4M3 : dtype);
    outline.tensors.push_back({std::move(spec), bytes});
  }
  outline.operations =
      CountOperations(outline.config, outline.mobe ? &*outline.mobe : nullptr);
  return outline;
}

}  // namespace

int64_t Outline::bytes() const {
  int64_t sum = 0;
  for (const SizedTensor& tensor : tensors) sum += tensor.bytes;
  return sum;
}

Outline ReadOutline(const fs::path& folder) {
  CheckModelFolder(folder);
  const Json map = ReadMap(folder);
  std::vector<fs::path> shards = FindShards(folder, map);
  if (shards.empty()) return OutlineOf(folder, map);
  const OpenedModel model = OpenModel(folder);
  CheckRuns(*model.family, folder.string());
  return OutlineOf(model, std::move(shards));
}

}  // namespace mobe
