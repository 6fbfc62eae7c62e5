#include "io/checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "io/fp8.h"
#include "io/hub.h"
#include "tensor/planes.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

constexpr char kConfigFile[] = "config.json";
constexpr char kWeightsFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";

// Parsed JSON takes up to some twenty times the text. The largest configs have
// 100 kB; the index of a model with 140,000 tensors has 15 MB.
constexpr uint64_t kMaxConfigBytes = 16u << 20;
constexpr uint64_t kMaxIndexBytes = 64u << 20;

// A name with a slash would leave the folder; "", "." and ".." don't end in
// .safetensors; a NUL would cut the name short.
bool IsPlainShardName(std::string_view name) {
  return name.ends_with(".safetensors") &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string::npos;
}

// The weight map of an index: tensor name to file name.
Json ReadWeightMap(const fs::path& path) {
  const std::string source = path.string();
  Json index = ParseJson(ReadSmallFile(path, kMaxIndexBytes), source);
  const auto found = index.find("weight_map");
  if (found == index.end() || !found->is_object()) {
    Fail(ErrorKind::kCorruptFile, "{}: no object \"weight_map\" in it", source);
  }
  for (const auto& [tensor, file] : found->items()) {
    if (!file.is_string() || !IsPlainShardName(file.get_ref<std::string&>())) {
      Fail(ErrorKind::kCorruptFile,
           "{}: tensor {}: its file is {}, expected the plain name of a "
           ".safetensors file in the same folder",
           source, Excerpt(tensor), Excerpt(file));
    }
  }
  return std::move(*found);
}

// NVIDIA's ModelOpt says beside config.json how it quantised the weights.
void RefuseModelopt(const fs::path& folder) {
  const fs::path path = folder / "hf_quant_config.json";
  if (!Exists(path)) return;
  const Json json =
      ParseJson(ReadSmallFile(path, kMaxConfigBytes), path.string());
  const Json quantization =
      json.is_object() ? json.value("quantization", Json()) : Json();
  const Json method = quantization.is_object()
                          ? quantization.value("quant_algo", Json())
                          : Json();
  if (method.is_null()) return;
  Fail(ErrorKind::kUnsupported,
       "{}: the weights are quantised by ModelOpt, quant_algo {}, which can't "
       "be read; take the model in BF16 or in FP8 with scales of blocks",
       path.string(), Excerpt(method));
}

}  // namespace

Checkpoint::Checkpoint(fs::path folder) : folder_(std::move(folder)) {
  CheckModelFolder(folder_);
  config_ =
      ParseJson(ReadSmallFile(config_path(), kMaxConfigBytes), config_path());
  if (!config_.is_object()) {
    Fail(ErrorKind::kCorruptFile, "{}: is {}, expected an object",
         config_path(), Excerpt(config_));
  }
  RefuseModelopt(folder_);
  if (Exists(folder_ / kWeightsFile)) {
    shards_.emplace_back(folder_ / kWeightsFile);
  } else if (Exists(folder_ / kIndexFile)) {
    OpenIndexed(folder_ / kIndexFile);
  } else {
    FailWithoutWeights(folder_);
  }
  ListTensors();
  CheckQuantConfig(folder_, config_, tensors_);
  LinkScales();
}

void Checkpoint::ListTensors() {
  for (const SafetensorsFile& shard : shards_) {
    const std::string file = shard.file().path().filename().string();
    for (const TensorView& tensor : shard.tensors()) {
      const auto meant = index_.find(tensor.name);
      if (meant != index_.end() && meant->second != file) continue;
      if (!by_name_.emplace(tensor.name, &tensor).second) continue;
      tensors_.push_back(&tensor);
    }
  }
}

void Checkpoint::OpenIndexed(const fs::path& index) {
  const Json weight_map = ReadWeightMap(index);
  // The tensors that the index gives each file; opened in the files' order.
  std::map<std::string, std::vector<std::string>> files;
  for (const auto& [tensor, file] : weight_map.items()) {
    files[file.get_ref<const std::string&>()].push_back(tensor);
  }
  std::vector<std::string> missing;
  for (const auto& [file, promised] : files) {
    if (!Exists(folder_ / file)) missing.push_back(file);
  }
  if (!missing.empty()) FailWithoutShards(index, missing);
  for (const auto& [file, promised] : files) {
    const fs::path path = folder_ / file;
    const SafetensorsFile& shard = shards_.emplace_back(path);
    for (const TensorView& tensor : shard.tensors()) {
      const auto entry = weight_map.find(tensor.name);
      if (entry == weight_map.end()) {
        index_faults_[tensor.name] =
            fmt::format("{}: tensor {} is not in the index {}", path.string(),
                        Excerpt(tensor.name), index.string());
      } else if (*entry != file) {
        index_faults_[tensor.name] = fmt::format(
            "{}: tensor {} is in this file, but {} says it is in {}",
            path.string(), Excerpt(tensor.name), index.string(),
            Excerpt(*entry));
      }
    }
    for (const std::string& tensor : promised) {
      if (shard.Find(tensor) == nullptr) {
        index_faults_.emplace(
            tensor,
            fmt::format("{}: tensor {} is not in this file, but {} says so",
                        path.string(), Excerpt(tensor), index.string()));
      } else {
        index_[tensor] = file;
      }
    }
  }
}

const std::string* Checkpoint::IndexFault(const std::string& name) const {
  const auto found = index_faults_.find(name);
  return found == index_faults_.end() ? nullptr : &found->second;
}

TensorView& Checkpoint::Adopt(const std::string& whole, TensorView part) {
  if (Find(part.name) != nullptr) {
    Fail(ErrorKind::kCorruptFile,
         "{}: tensors {} and {} are both there, but one is a part of the other",
         folder_.string(), Excerpt(whole), Excerpt(part.name));
  }
  TensorView& view = parts_.emplace_back(std::move(part));
  by_name_.emplace(view.name, &view);
  return view;
}

void Checkpoint::Split(const TensorView& whole, std::vector<TensorView> parts) {
  const auto at = std::ranges::find(tensors_, &whole);
  std::vector<const TensorView*> views;
  views.reserve(parts.size());
  by_name_.erase(whole.name);
  for (TensorView& part : parts) {
    views.push_back(&Adopt(whole.name, std::move(part)));
  }
  tensors_.insert(tensors_.erase(at), views.begin(), views.end());
}

void Checkpoint::Split(const TensorView& whole, const TensorView& whole_scales,
                       std::vector<TensorView> parts,
                       std::vector<TensorView> scales) {
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].scales = &parts_.emplace_back(std::move(scales[i]));
  }
  const std::string first = parts.front().name;
  Split(whole, std::move(parts));
  SetScaled(whole_scales, At(first));
}

void Checkpoint::LinkPacked(const std::string& name,
                            const std::vector<int64_t>& shape) {
  for (const FormatRow& format : Formats()) {
    const auto planes = PlaneShapesOf(format, shape);
    if (!planes) continue;
    const TensorView* codes = Find(PackedName(name, format));
    if (codes == nullptr) continue;
    const std::string scales_name = PackedScalesName(name, format);
    const TensorView* scales = Find(scales_name);
    if (scales == nullptr) {
      Fail(ErrorKind::kMissing,
           "{}: tensor {} is there, but its scales, {}, "
           "are not",
           FileOf(*codes), Excerpt(codes->name), Excerpt(scales_name));
    }
    CheckPlane(*codes, format.codes, planes->codes);
    CheckPlane(*scales, DType::kBF16, planes->scales);
    TensorView view = *codes;
    view.name = name;
    view.shape = shape;
    view.packed = &format;
    view.scales = scales;
    Split(*codes, {std::move(view)});
    SetScaled(*scales, At(name));
  }
}

void Checkpoint::Take(
    Checkpoint other,
    const std::function<bool(const std::string& name)>& wanted) {
  // Views stay where they are when what holds them is moved.
  std::ranges::move(other.shards_, std::back_inserter(shards_));
  taken_parts_.push_back(std::move(other.parts_));
  taken_transposed_.push_back(std::move(other.transposed_));
  for (const TensorView* tensor : other.tensors_) {
    const TensorView* matrix = tensor->scaled ? tensor->scaled : tensor;
    if (wanted(matrix->name)) Put(tensor);
  }
}

void Checkpoint::Take(SafetensorsFile file) {
  shards_.push_back(std::move(file));
  for (const TensorView& tensor : shards_.back().tensors()) Put(&tensor);
}

void Checkpoint::Put(const TensorView* tensor) {
  const auto own = by_name_.find(tensor->name);
  if (own == by_name_.end()) {
    tensors_.push_back(tensor);
  } else {
    *std::ranges::find(tensors_, own->second) = tensor;
    by_name_.erase(own);
  }
  by_name_.emplace(tensor->name, tensor);
}

std::string PackedName(const std::string& name, const FormatRow& format) {
  return fmt::format("{}.{}", name, format.name);
}

std::string PackedScalesName(const std::string& name, const FormatRow& format) {
  return PackedName(name, format) + ".scales";
}

void Checkpoint::CheckPlane(const TensorView& plane, DType dtype,
                            const std::vector<int64_t>& shape) const {
  if (plane.dtype == dtype && plane.shape == shape) return;
  Fail(ErrorKind::kCorruptFile,
       "{}: tensor {} is {} of shape {}, expected {} of shape {}",
       FileOf(plane), Excerpt(plane.name), DTypeName(plane.dtype), plane.shape,
       DTypeName(dtype), shape);
}

std::string Checkpoint::config_path() const {
  return (folder_ / kConfigFile).string();
}

const TensorView* Checkpoint::Find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

const TensorView& Checkpoint::At(const std::string& name) const {
  const TensorView* tensor = Find(name);
  if (tensor == nullptr) {
    Fail(ErrorKind::kMissing, "{}: tensor {}: not in the checkpoint",
         folder_.string(), Excerpt(name));
  }
  return *tensor;
}

const SafetensorsFile& Checkpoint::ShardOf(const TensorView& tensor) const {
  for (const SafetensorsFile& shard : shards_) {
    const std::span<const std::byte> file = shard.file().bytes();
    const std::byte* const data = tensor.data.data();
    if (data >= file.data() && data <= file.data() + file.size()) return shard;
  }
  Fail(ErrorKind::kInternal, "{}: tensor {}: not one of this checkpoint's",
       folder_.string(), Excerpt(tensor.name));
}

std::string Checkpoint::FileOf(const TensorView& tensor) const {
  return ShardOf(tensor).file().path().string();
}

void Checkpoint::Evict(std::span<const std::byte> data) const {
  const auto place = Locate(data.data());
  if (place) shards_[static_cast<size_t>(place->shard)].file().Evict(data);
}

std::vector<fs::path> Checkpoint::shard_paths() const {
  std::vector<fs::path> paths;
  for (const SafetensorsFile& shard : shards_) {
    paths.push_back(shard.file().path());
  }
  return paths;
}

std::optional<Checkpoint::Place> Checkpoint::Locate(const void* data) const {
  const auto* byte = static_cast<const std::byte*>(data);
  for (size_t i = 0; i < shards_.size(); ++i) {
    const std::span<const std::byte> bytes = shards_[i].file().bytes();
    const std::less<> before;
    if (before(byte, bytes.data()) ||
        !before(byte, bytes.data() + bytes.size())) {
      continue;
    }
    return Place{static_cast<int64_t>(i), byte - bytes.data()};
  }
  return std::nullopt;
}

void Checkpoint::Evict(const TensorView& tensor) const {
  ShardOf(tensor).file().Evict(tensor.data);
}

int64_t Checkpoint::bytes() const {
  // No overflow: all of them are mapped at once.
  int64_t total = 0;
  for (const TensorView* tensor : tensors_) {
    total += static_cast<int64_t>(tensor->data.size());
  }
  return total;
}

std::vector<Shard> PlanShards(const std::vector<TensorDecl>& tensors,
                              int64_t max_bytes) {
  std::vector<Shard> shards(1);
  int64_t used = 0;
  for (const TensorDecl& tensor : tensors) {
    const int64_t bytes = tensor.bytes();
    if (bytes > max_bytes - used && !shards.back().tensors.empty()) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().tensors.push_back(tensor);
    used += bytes;
  }
  if (shards.size() == 1) {
    shards[0].file = kWeightsFile;
    return shards;
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    shards[i].file =
        fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  }
  return shards;
}

std::string ShardIndex(const std::vector<Shard>& shards) {
  int64_t total = 0;
  Json weight_map = Json::object();
  for (const Shard& shard : shards) {
    for (const TensorDecl& tensor : shard.tensors) {
      if (__builtin_add_overflow(total, tensor.bytes(), &total)) {
        Fail(ErrorKind::kUnsupported, "{}: the model's size overflows 63 bits",
             shard.file);
      }
      weight_map[tensor.name] = shard.file;
    }
  }
  const Json index = {{"metadata", {{"total_size", total}}},
                      {"weight_map", std::move(weight_map)}};
  // As transformers lays it out, to the byte.
  return index.dump(2, ' ', /*ensure_ascii=*/true) + "\n";
}

}  // namespace mobe
