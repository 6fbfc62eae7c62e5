#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/limits.h"
#include "base/parallel.h"
#include "io/fp8.h"
#include "kernels/expand.h"
#include "tensor/packed.h"
#include "tensor/packed_bases.h"

namespace mobe {
namespace {

class Loader {
 public:
  Loader(const OpenedModel& model, Weights* weights)
      : model_(model), weights_(weights) {}

  // Empty when the model has none.
  std::vector<float> Vector(Role role, int64_t layer = -1,
                            int64_t group = -1) const {
    if (!Has(role)) return {};
    const TensorView& tensor = model_.At(role, layer, group);
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    LoadFloats(tensor, values.data());
    return values;
  }

  // Of a norm over the hidden state, queries or keys: as it multiplies.
  std::vector<float> Norm(Role role, int64_t layer = -1) const {
    std::vector<float> weight = Vector(role, layer);
    for (float& w : weight) w += model_.config.norm_offset;
    return weight;
  }

  // Empty when the model has none.
  WeightView Matrix(Role role, int64_t layer = -1, int64_t expert = -1) {
    if (!Has(role)) return {};
    const TensorView& tensor = model_.At(role, layer, expert);
    if (tensor.code_bits != 0) {  // no kernel reads the publisher's integers
      return {NumberFormat::kBF16, CopyAs(DType::kBF16, tensor),
              tensor.shape[0], tensor.shape[1]};
    }
    WeightView view{tensor.format(), Data(tensor), tensor.shape[0],
                    tensor.shape[1]};
    if (tensor.scales == nullptr) return view;
    const TensorView& scales = *tensor.scales;
    if (view.packed()) {
      view.scales = Data(scales);
      return view;
    }
    view.scales = scales.dtype == DType::kF32 ? Data(scales)
                                              : CopyAs(DType::kF32, scales);
    view.block_rows = tensor.block.rows;
    view.block_cols = tensor.block.cols;
    view.scale_stride = ScaleStride(tensor);
    return view;
  }

  bool Has(Role role) const {
    return KindOf(role) != nullptr ||
           HasRole(*model_.family, model_.config, role);
  }

  std::vector<SharedBases> Shared(const FactorShape& shape) {
    std::vector<SharedBases> groups;
    for (const ExpertGroup& group : GroupsOf(model_.config, shape)) {
      SharedBases& shared = groups.emplace_back();
      const auto bases = [&](Role role) {
        return Bases(model_.At(role, shape.layer, group.index));
      };
      shared.bases = shape.basis_rank == 0
                         ? WholeBases(model_.At(shape.kind->bases, shape.layer,
                                                group.index))
                         : StoredBases(BasesProducts{bases(shape.kind->left),
                                                     bases(shape.kind->right)});
      shared.alpha = Vector(shape.kind->alpha, shape.layer, group.index);
    }
    return groups;
  }

 private:
  // Kernels mix bases of float32 and bfloat16; float32 holds every other.
  BasesView Bases(const TensorView& tensor) {
    const bool mixes =
        tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16;
    return {mixes ? tensor.dtype : DType::kF32,
            mixes ? Data(tensor) : CopyAs(DType::kF32, tensor), tensor.shape[0],
            tensor.shape[1], tensor.shape[2]};
  }

  StoredBases WholeBases(const TensorView& tensor) {
    if (tensor.packed == nullptr) return StoredBases(Bases(tensor));
    if (!tensor.packed->has_bases) return RepackedBases(tensor);
    return StoredBases(PackedBases{tensor.data.data(),
                                   tensor.scales->data.data(), tensor.shape[0],
                                   tensor.shape[1], tensor.shape[2]});
  }

  // Bases of fewer bits, in those that kernels mix: 8 bits for each group of
  // 256 columns lose a fiftieth of what 6 bits have lost, and less of fewer.
  StoredBases RepackedBases(const TensorView& tensor) {
    const int64_t m = tensor.shape[0];
    const int64_t cols = tensor.shape[2];
    PackedBases bases{nullptr, nullptr, m, tensor.shape[1], cols};
    Buffer<std::byte>& memory = weights_->owned.emplace_back(bases.bytes());
    std::byte* const scales = memory.data() + bases.rank * bases.row_bytes();
    ParallelFor(bases.rank, [&](int64_t row) {
      thread_local Buffer<float> rows;
      rows.Resize(m * cols);
      for (int64_t i = 0; i < m; ++i) {
        LoadFloats(tensor, (i * bases.rank + row) * cols, cols,
                   rows.data() + i * cols);
      }
      EncodeBasesRow(bases, rows.data(),
                     memory.data() + row * bases.row_bytes(),
                     scales + row * bases.row_scale_bytes());
    });
    bases.codes = memory.data();
    bases.scales = scales;
    StoredBases stored(bases);
    stored.rows = {tensor.format(), Data(tensor), m * bases.rank, cols,
                   Data(*tensor.scales)};
    return stored;
  }

  // The mapped bytes where kernels can read them in place. The format promises
  // no alignment (a header may have any length), and reading a float at an odd
  // address is undefined: then they are copied.
  const void* Data(const TensorView& tensor) {
    const auto address = reinterpret_cast<uintptr_t>(tensor.data.data());
    if (address % static_cast<uintptr_t>(DTypeSize(tensor.dtype)) == 0) {
      return tensor.data.data();
    }
    Buffer<std::byte>& copy =
        weights_->owned.emplace_back(static_cast<int64_t>(tensor.data.size()));
    std::memcpy(copy.data(), tensor.data.data(), tensor.data.size());
    return copy.data();
  }

  const void* CopyAs(DType dtype, const TensorView& tensor) {
    Buffer<std::byte>& copy =
        weights_->owned.emplace_back(tensor.elements() * DTypeSize(dtype));
    constexpr int64_t kPiece = 1 << 14;
    ParallelRanges(tensor.elements(), kPiece, [&](int64_t begin, int64_t end) {
      float values[kPiece];
      LoadFloats(tensor, begin, end - begin, values);
      StoreFloats(values, end - begin, dtype,
                  copy.data() + begin * DTypeSize(dtype));
    });
    return copy.data();
  }

  const OpenedModel& model_;
  Weights* weights_;
};

// Splits what is stored as one matrix into its three.
void SplitQueryKeyValue(const ModelConfig& c, const WeightView& fused,
                        const std::vector<float>& bias, AttentionWeights* a) {
  struct Part {
    WeightView AttentionWeights::*matrix;
    std::vector<float> AttentionWeights::*bias;
    int64_t rows;
  };
  const int64_t keys = c.num_kv_heads * c.head_dim;
  const Part parts[] = {
      {&AttentionWeights::query, &AttentionWeights::query_bias,
       c.num_heads * c.head_dim},
      {&AttentionWeights::key, &AttentionWeights::key_bias, keys},
      {&AttentionWeights::value, &AttentionWeights::value_bias, keys}};
  int64_t row = 0;
  for (const Part& part : parts) {
    a->*part.matrix = fused.Rows(row, part.rows);
    if (!bias.empty()) {
      (a->*part.bias)
          .assign(bias.begin() + row, bias.begin() + row + part.rows);
    }
    row += part.rows;
  }
}

DeltaWeights LoadDelta(const DeltaSizes& sizes, int64_t layer, Loader* load) {
  DeltaWeights d;
  d.query_key_value = load->Matrix(Role::kDeltaQueryKeyValue, layer);
  d.gate = load->Matrix(Role::kDeltaGate, layer);
  d.beta = load->Matrix(Role::kDeltaBeta, layer);
  d.decay = load->Matrix(Role::kDeltaDecay, layer);
  d.inputs = load->Matrix(Role::kDeltaInputs, layer);
  d.rates = load->Matrix(Role::kDeltaRates, layer);
  const std::vector<float> by_channels =
      load->Vector(Role::kDeltaConvolution, layer);
  d.convolution.resize(by_channels.size());
  Transpose(by_channels.data(), sizes.channels(), sizes.window,
            d.convolution.data());
  d.decay_bias = load->Vector(Role::kDeltaDecayBias, layer);
  d.decay_scale = load->Vector(Role::kDeltaDecayLog, layer);
  for (float& scale : d.decay_scale) scale = -std::exp(scale);
  d.norm = load->Vector(Role::kDeltaNorm, layer);
  return d;
}

AttentionWeights LoadAttention(const ModelConfig& config, int64_t layer,
                               Loader* load) {
  AttentionWeights a;
  a.norm = load->Norm(Role::kAttentionNorm, layer);
  if (config.IsDeltaLayer(layer)) {
    a.delta = LoadDelta(config.delta, layer, load);
    a.output = load->Matrix(Role::kDeltaOutput, layer);
    return a;
  }
  a.output = load->Matrix(Role::kAttentionOutput, layer);
  a.output_bias = load->Vector(Role::kAttentionOutputBias, layer);
  if (load->Has(Role::kQueryKeyValue)) {
    SplitQueryKeyValue(config, load->Matrix(Role::kQueryKeyValue, layer),
                       load->Vector(Role::kQueryKeyValueBias, layer), &a);
  } else {
    a.query = load->Matrix(
        load->Has(Role::kQueryUp) ? Role::kQueryUp : Role::kQuery, layer);
    a.key = load->Matrix(Role::kKey, layer);
    a.value = load->Matrix(Role::kValue, layer);
    a.query_bias = load->Vector(Role::kQueryBias, layer);
    a.key_bias = load->Vector(Role::kKeyBias, layer);
    a.value_bias = load->Vector(Role::kValueBias, layer);
  }
  a.query_norm = load->Norm(Role::kQueryNorm, layer);
  a.key_norm = load->Norm(Role::kKeyNorm, layer);
  a.query_down = load->Matrix(Role::kQueryDown, layer);
  a.query_down_norm = load->Vector(Role::kQueryDownNorm, layer);
  a.latent_down = load->Matrix(Role::kLatentDown, layer);
  a.latent_norm = load->Vector(Role::kLatentNorm, layer);
  a.latent_up = load->Matrix(Role::kLatentUp, layer);
  return a;
}

LayerWeights LoadLayer(const OpenedModel& model, int64_t layer, Loader* load) {
  LayerWeights w;
  w.attention = LoadAttention(model.config, layer, load);
  w.mlp_norm = load->Norm(Role::kMlpNorm, layer);
  if (!model.config.IsMoeLayer(layer)) {
    w.dense = {load->Matrix(Role::kDenseGate, layer),
               load->Matrix(Role::kDenseUp, layer),
               load->Matrix(Role::kDenseDown, layer)};
    return w;
  }
  if (load->Has(Role::kSharedGate)) {
    w.dense = {load->Matrix(Role::kSharedGate, layer),
               load->Matrix(Role::kSharedUp, layer),
               load->Matrix(Role::kSharedDown, layer)};
    w.shared_scale = load->Vector(Role::kSharedScale, layer);
  }
  w.router = load->Vector(Role::kRouter, layer);
  w.router_bias = load->Vector(Role::kRouterBias, layer);
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

// Divides each value by the L2 norm of output's column. Logits are then those
// of an output with columns of length 1 (Bailing's norm_head), and no copy of
// the largest matrix is needed.
void DivideByColumnNorms(const WeightView& output, std::vector<float>* values) {
  constexpr int64_t kBlock = 1024;  // rows; sums of blocks are added in order
  const int64_t blocks = (output.rows + kBlock - 1) / kBlock;
  std::vector<std::vector<double>> sums(static_cast<size_t>(blocks));
  ParallelFor(blocks, [&](int64_t block) {
    std::vector<double>& sum = sums[static_cast<size_t>(block)];
    std::vector<float> row(static_cast<size_t>(output.cols));
    sum.resize(row.size());
    const int64_t end = std::min(output.rows, (block + 1) * kBlock);
    for (int64_t r = block * kBlock; r < end; ++r) {
      const WeightView view = output.Rows(r, 1);
      ExpandWeights(view, row.data());
      for (size_t j = 0; j < row.size(); ++j) {
        sum[j] += static_cast<double>(row[j]) * row[j];
      }
    }
  });
  for (size_t j = 0; j < values->size(); ++j) {
    double squares = 0;
    for (const auto& sum : sums) squares += sum[j];
    (*values)[j] /= static_cast<float>(std::max(std::sqrt(squares), 1e-7));
  }
}

void LoadEnds(const OpenedModel& model, Loader* load, Weights* weights) {
  weights->embedding = load->Matrix(Role::kEmbedding);
  weights->output = model.config.tie_embeddings ? weights->embedding
                                                : load->Matrix(Role::kOutput);
  weights->final_norm = load->Norm(Role::kFinalNorm);
  if (model.config.norm_head) {
    DivideByColumnNorms(weights->output, &weights->final_norm);
  }
}

// What Loader copies: vectors, routers and dtypes that no kernel reads, as
// float32, and the publisher's integers. The rest is read from the mapped
// files.
int64_t CopiedBytes(const OpenedModel& model) {
  const ModelConfig& c = model.config;
  int64_t elements = 0;
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    if (c.IsMoeLayer(layer)) elements += c.num_experts * c.hidden_size;
    if (c.IsDeltaLayer(layer)) elements += c.delta.channels() * c.delta.window;
  }
  for (const TensorView* tensor : model.checkpoint.tensors()) {
    const bool copied_bases =
        tensor->shape.size() == 3 && tensor->packed == nullptr &&
        tensor->dtype != DType::kF32 && tensor->dtype != DType::kBF16;
    if (copied_bases || tensor->shape.size() < 2) {
      elements += tensor->elements();
    }
  }
  int64_t codes = 0;
  for (const TensorSpec& spec : model.tensors) {
    const TensorView& tensor = model.checkpoint.At(spec.name);
    if (tensor.code_bits != 0) codes += tensor.elements();
  }
  return elements * DTypeSize(DType::kF32) + codes * DTypeSize(DType::kBF16);
}

}  // namespace

Weights LoadWeights(const OpenedModel& model) {
  CheckMemory(CopiedBytes(model), "what can't be used in place");
  Weights weights;
  Loader load(model, &weights);
  LoadEnds(model, &load, &weights);
  for (int64_t layer = 0; layer < model.config.num_layers; ++layer) {
    weights.layers.push_back(LoadLayer(model, layer, &load));
  }
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

std::vector<const WeightView*> AttentionWeights::Matrices() const {
  std::vector<const WeightView*> matrices = {
      &query, &key, &value, &output, &query_down, &latent_down, &latent_up};
  if (delta) {
    for (const WeightView* w :
         {&delta->query_key_value, &delta->gate, &delta->beta, &delta->decay,
          &delta->inputs, &delta->rates}) {
      matrices.push_back(w);
    }
  }
  return matrices;
}

int64_t FactoredWeights::bytes() const {
  int64_t bytes = 0;
  for (const KindMembers& members : kKindMembers) {
    for (const SharedBases& group : this->*members.shared) {
      bytes += group.bases.bytes();
    }
  }
  return bytes;
}

std::vector<Plane> PlanesOf(const WeightView& w) {
  if (w.codes == nullptr) return {};
  const auto plane = [](const void* data, int64_t bytes) {
    return Plane{static_cast<const std::byte*>(data),
                 static_cast<size_t>(bytes)};
  };
  const FormatRow& format = RowOf(w.format);
  if (!format.packed()) {
    std::vector<Plane> planes = {
        plane(w.Row<std::byte>(0), w.rows * w.cols * DTypeSize(format.codes))};
    if (w.scales != nullptr) {
      const int64_t blocks = (w.rows + w.block_rows - 1) / w.block_rows;
      planes.push_back(plane(w.scales, blocks * w.scale_stride * 4));
    }
    return planes;
  }
  const PackedSizes sizes = PackedSizesOf(format, w.cols);
  return {plane(w.codes, RowBlocks(w.rows) * sizes.code_bytes),
          plane(w.scales, RowBlocks(w.rows) * sizes.scale_bytes())};
}

void AddPlanes(const MlpWeights& mlp, std::vector<Plane>* planes) {
  for (const WeightView* w : {&mlp.gate, &mlp.up, &mlp.down}) {
    for (const Plane& plane : PlanesOf(*w)) planes->push_back(plane);
  }
}

void AddPlanes(const FactoredWeights& factored, std::vector<Plane>* planes) {
  for (const KindMembers& members : kKindMembers) {
    for (const SharedBases& shared : factored.*members.shared) {
      for (const Plane& plane : shared.bases.Planes()) {
        planes->push_back(plane);
      }
    }
  }
}

}  // namespace mobe
