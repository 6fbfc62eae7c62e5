#include "model/weights.h"

#include <cstring>

#include "model/build_experts.h"

namespace mobe {
namespace {

class Loader {
 public:
  Loader(const OpenedModel& model, Weights* weights)
      : model_(model), weights_(weights) {}

  std::vector<float> Vector(Role role, int64_t layer = -1) const {
    const TensorView& tensor = model_.At(role, layer);
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    LoadAsFloats(tensor.dtype, tensor.data.data(), tensor.elements(),
                 values.data());
    return values;
  }

  WeightView Matrix(Role role, int64_t layer = -1, int64_t expert = -1) {
    const TensorView& tensor = model_.At(role, layer, expert);
    const auto [dtype, data] = Data(tensor);
    return {dtype, data, tensor.shape[0], tensor.shape[1]};
  }

  SharedBases Shared(const FactorShape& shape) {
    SharedBases shared;
    if (shape.basis_rank == 0) {
      shared.bases.whole = Bases(shape.kind->bases, shape.layer);
    } else {
      shared.bases.left = Bases(shape.kind->left, shape.layer);
      shared.bases.right = Bases(shape.kind->right, shape.layer);
      shared.bases.whole = {DType::kF32, nullptr, shape.num_bases, shape.rank,
                            shared.bases.right.cols};
    }
    shared.alpha = Vector(shape.kind->alpha, shape.layer);
    return shared;
  }

 private:
  BasesView Bases(Role role, int64_t layer) {
    const TensorView& tensor = model_.At(role, layer);
    const auto [dtype, data] = Data(tensor);
    return {dtype, data, tensor.shape[0], tensor.shape[1], tensor.shape[2]};
  }

  struct Stored {
    DType dtype;
    const void* data;
  };

  // The mapped bytes where kernels can read them in place. The two exceptions
  // are copied once. The format promises no alignment (a header may have any
  // length), and reading a float at an odd address is undefined. And kernels
  // read float32 and bfloat16 only; float32 holds every value of the other
  // dtypes exactly.
  Stored Data(const TensorView& tensor) {
    const auto address = reinterpret_cast<uintptr_t>(tensor.data.data());
    const auto alignment = static_cast<uintptr_t>(DTypeSize(tensor.dtype));
    const bool known =
        tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16;
    if (known && address % alignment == 0) {
      return {tensor.dtype, tensor.data.data()};
    }
    const DType dtype = known ? tensor.dtype : DType::kF32;
    Buffer<std::byte>& copy =
        weights_->owned.emplace_back(tensor.elements() * DTypeSize(dtype));
    if (known) {
      std::memcpy(copy.data(), tensor.data.data(), tensor.data.size());
    } else {
      LoadAsFloats(tensor.dtype, tensor.data.data(), tensor.elements(),
                   reinterpret_cast<float*>(copy.data()));
    }
    return {dtype, copy.data()};
  }

  const OpenedModel& model_;
  Weights* weights_;
};

AttentionWeights LoadAttention(const ModelConfig& config, int64_t layer,
                               Loader* load) {
  AttentionWeights a;
  a.norm = load->Vector(Role::kAttentionNorm, layer);
  a.query = load->Matrix(Role::kQuery, layer);
  a.key = load->Matrix(Role::kKey, layer);
  a.value = load->Matrix(Role::kValue, layer);
  a.output = load->Matrix(Role::kAttentionOutput, layer);
  if (config.attention_bias) {
    a.query_bias = load->Vector(Role::kQueryBias, layer);
    a.key_bias = load->Vector(Role::kKeyBias, layer);
    a.value_bias = load->Vector(Role::kValueBias, layer);
    a.output_bias = load->Vector(Role::kAttentionOutputBias, layer);
  }
  a.query_norm = load->Vector(Role::kQueryNorm, layer);
  a.key_norm = load->Vector(Role::kKeyNorm, layer);
  return a;
}

LayerWeights LoadLayer(const OpenedModel& model, int64_t layer, Loader* load) {
  LayerWeights w;
  w.attention = LoadAttention(model.config, layer, load);
  w.mlp_norm = load->Vector(Role::kMlpNorm, layer);
  if (!model.config.IsMoeLayer(layer)) {
    w.experts.push_back({load->Matrix(Role::kDenseGate, layer),
                         load->Matrix(Role::kDenseUp, layer),
                         load->Matrix(Role::kDenseDown, layer)});
    return w;
  }
  w.router = load->Vector(Role::kRouter, layer);
  for (int64_t e = 0; e < model.config.num_experts; ++e) {
    w.experts.push_back({load->Matrix(Role::kExpertGate, layer, e),
                         load->Matrix(Role::kExpertUp, layer, e),
                         load->Matrix(Role::kExpertDown, layer, e)});
  }
  for (const KindMembers& members : kKindMembers) {
    const FactorShape* shape = model.Factored(layer, members.kind);
    if (shape == nullptr) continue;
    if (!w.factored) w.factored.emplace().activation = model.mobe->activation;
    (*w.factored).*members.shared = load->Shared(*shape);
  }
  return w;
}

void LoadEnds(const OpenedModel& model, Loader* load, Weights* weights) {
  weights->embedding = load->Matrix(Role::kEmbedding);
  weights->output = model.config.tie_embeddings ? weights->embedding
                                                : load->Matrix(Role::kOutput);
  weights->final_norm = load->Vector(Role::kFinalNorm);
}

}  // namespace

Weights LoadWeights(const OpenedModel& model, const LoadOptions& options) {
  Weights weights;
  Loader load(model, &weights);
  LoadEnds(model, &load, &weights);
  for (int64_t layer = 0; layer < model.config.num_layers; ++layer) {
    weights.layers.push_back(LoadLayer(model, layer, &load));
  }
  BuildExperts(options, &weights);
  return weights;
}

Weights LoadOneLayer(const OpenedModel& model, int64_t layer) {
  Weights weights;
  Loader load(model, &weights);
  weights.layers.push_back(LoadLayer(model, layer, &load));
  return weights;
}

Weights LoadHead(const OpenedModel& model) {
  Weights weights;
  Loader load(model, &weights);
  LoadEnds(model, &load, &weights);
  return weights;
}

int64_t DecodeBytes(const Weights& weights, const ModelConfig& config) {
  int64_t bytes = weights.output.bytes();
  for (const LayerWeights& layer : weights.layers) {
    const AttentionWeights& a = layer.attention;
    bytes +=
        a.query.bytes() + a.key.bytes() + a.value.bytes() + a.output.bytes();
    bytes += static_cast<int64_t>(layer.router.size() * sizeof(float));
    const MlpWeights& mlp = layer.experts.front();
    bytes += (mlp.gate.bytes() + mlp.up.bytes() + mlp.down.bytes()) *
             (layer.IsDense() ? 1 : config.experts_per_token);
    if (!layer.factored) continue;
    for (const KindMembers& members : kKindMembers) {
      const auto& shared = (*layer.factored).*members.shared;
      if (shared) bytes += shared->bases.bytes();
    }
  }
  return bytes;
}

}  // namespace mobe
