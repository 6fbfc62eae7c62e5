#include "mobe/format.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace mobe {
namespace {

std::string MlpName(int64_t layer, const char* tensor) {
  return fmt::format("model.layers.{}.mlp.{}", layer, tensor);
}

std::vector<int64_t> MoeLayers(const ModelConfig& config) {
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (config.IsMoeLayer(layer)) layers.push_back(layer);
  }
  return layers;
}

// True when both bases are there, false when none is.
bool IsFactored(const Checkpoint& checkpoint, int64_t layer) {
  const bool gate = checkpoint.Find(BasesName(layer, kGateKind)) != nullptr;
  const bool up = checkpoint.Find(BasesName(layer, kUpKind)) != nullptr;
  if (gate != up) {
    Fail(ErrorKind::kCorruptFile, "{}: layer {} has tensor {} but not {}",
         checkpoint.folder().string(), layer,
         BasesName(layer, gate ? kGateKind : kUpKind),
         BasesName(layer, gate ? kUpKind : kGateKind));
  }
  if (checkpoint.Find(MlpName(layer, "B_gate_0")) != nullptr) {
    Fail(ErrorKind::kUnsupported,
         "{}: layer {} has bases in expert groups ({}), which can't be read "
         "yet",
         checkpoint.folder().string(), layer, MlpName(layer, "B_gate_0"));
  }
  return gate;
}

Activation ReadActivation(const ConfigReader& reader) {
  const std::string name = reader.String("activation", "silu");
  const auto activation = ActivationFromName(name);
  if (!activation) reader.Reject("activation", "silu, tanh or identity");
  return *activation;
}

}  // namespace

bool MobeFormat::Has(int64_t layer) const {
  return std::binary_search(layers.begin(), layers.end(), layer);
}

std::string BasesName(int64_t layer, const MatrixKind& kind) {
  return MlpName(layer, kind.bases_name);
}

std::string AlphaName(int64_t layer, const MatrixKind& kind) {
  return MlpName(layer, kind.alpha_name);
}

std::optional<MobeFormat> DetectFormat(const Checkpoint& checkpoint,
                                       const ModelConfig& config) {
  MobeFormat format;
  for (int64_t layer : MoeLayers(config)) {
    if (IsFactored(checkpoint, layer)) format.layers.push_back(layer);
  }
  const ConfigReader top(checkpoint.config(), checkpoint.config_path());
  if (format.layers.empty()) {
    if (top.Has("mobe")) {
      Fail(ErrorKind::kMissing,
           "{}: the key \"mobe\" says that the model is factored, but {} has "
           "no tensor {}",
           top.source(), checkpoint.folder().string(), BasesName(0, kGateKind));
    }
    return std::nullopt;
  }
  const ConfigReader reader = top.Has("mobe") ? top.Object("mobe") : top;
  if (top.Has("mobe")) {
    const int64_t version = reader.Size("version");
    if (version != kFormatVersion) {
      Fail(ErrorKind::kUnsupported,
           "{}: format version {}, this mobe knows version {}; use a newer one",
           reader.source(), version, kFormatVersion);
    }
    if (reader.Has("layers") && reader.Counts("layers") != format.layers) {
      reader.Reject("layers", "the layers that have bases");
    }
  }
  format.num_bases = reader.Size("num_B");
  format.activation = ReadActivation(reader);
  const TensorView& bases =
      checkpoint.At(BasesName(format.layers.front(), kGateKind));
  if (bases.shape.size() != 3 || bases.shape[1] < 1) {
    Fail(ErrorKind::kCorruptFile,
         "{}: tensor {} has shape {}, expected [bases, rank, hidden size]",
         checkpoint.FileOf(bases), bases.name, bases.shape);
  }
  format.rank = bases.shape[1];
  return format;
}

std::vector<TensorSpec> ListTensors(const Family& family,
                                    const ModelConfig& config,
                                    const MobeFormat& format) {
  std::vector<TensorSpec> tensors;
  for (TensorSpec& spec : ListTensors(family, config)) {
    for (const MatrixKind& kind : kMatrixKinds) {
      if (spec.role != kind.expert || !format.Has(spec.layer)) continue;
      if (spec.expert == 0) {
        tensors.push_back(
            {kind.bases,
             spec.layer,
             -1,
             BasesName(spec.layer, kind),
             {format.num_bases, format.rank, config.hidden_size}});
        tensors.push_back({kind.alpha,
                           spec.layer,
                           -1,
                           AlphaName(spec.layer, kind),
                           {config.num_experts, format.num_bases}});
      }
      spec.shape = {config.expert_size, format.rank};
    }
    tensors.push_back(std::move(spec));
  }
  return tensors;
}

Json FactoredConfig(Json original, const ModelConfig& config,
                    const MobeFormat& format) {
  original = PlainConfig(std::move(original));  // a stray num_B would mislead
  const bool all_layers = format.layers == MoeLayers(config);
  const char* activation = ActivationName(format.activation);
  if (all_layers && format.activation != Activation::kIdentity) {
    original["num_B"] = format.num_bases;
    original["activation"] = activation;
  } else {
    original["mobe"] = {{"version", kFormatVersion},
                        {"num_B", format.num_bases},
                        {"activation", activation},
                        {"layers", format.layers}};
  }
  return original;
}

Json PlainConfig(Json factored) {
  for (const char* key : {"num_B", "activation", "mobe"}) factored.erase(key);
  return factored;
}

}  // namespace mobe
