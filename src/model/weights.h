// The weights of a loaded model, as the forward pass reads them.
//
// Matrices are views into the mapped checkpoint: loading reads almost nothing,
// and the kernel pages weights in as they are used. Vectors and routers are
// small and become float32 at load.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "kernels/kernels.h"
#include "mobe/open_model.h"
#include "model/mix_batch.h"

namespace mobe {

// Of a gated delta net, beside its output (model/delta_net.cc). A model has its
// inputs in two matrices or in four: what it does not have is empty. Sizes are
// those of DeltaSizes.
struct DeltaWeights {
  WeightView query_key_value;  // [channels, hidden]
  WeightView gate;             // [values, hidden]
  WeightView beta, decay;      // [value_heads, hidden]
  // By key heads: of each the rows of its query and key, then of its values,
  // then of their gates; and of its values' beta, then of their decay.
  WeightView inputs;               // [channels + values, hidden]
  WeightView rates;                // [2 value_heads, hidden]
  std::vector<float> convolution;  // [window, channels]: the oldest token first
  std::vector<float> decay_bias;   // [value_heads]
  std::vector<float> decay_scale;  // [value_heads]: -exp(A_log)
  std::vector<float> norm;         // [value_dim]
};

// What a model does not have is empty. Norms are as they multiply
// (ModelConfig::norm_offset).
struct AttentionWeights {
  std::vector<float> norm;  // [hidden]
  // [heads * head_dim, hidden or query_rank]; twice as many rows with gates.
  WeightView query;
  WeightView output;  // [hidden, heads * value_dim], or a delta net's values
  std::vector<float> output_bias;
  // Grouped-query attention. Biases have one value for each row of the matrix.
  WeightView key, value;  // [kv_heads * head_dim, hidden]
  std::vector<float> query_bias, key_bias, value_bias;
  // [head_dim], or of all heads together.
  std::vector<float> query_norm, key_norm;
  // Latent attention.
  WeightView query_down;               // [query_rank, hidden]
  std::vector<float> query_down_norm;  // [query_rank]
  WeightView latent_down;              // [kv_rank + rope.dim, hidden]
  std::vector<float> latent_norm;      // [kv_rank]
  WeightView latent_up;                // [heads * (nope + value_dim), kv_rank]
  std::optional<DeltaWeights> delta;   // in place of attention

  // All of the matrices.
  std::vector<const WeightView*> Matrices() const;
};

// down(silu(gate x) * (up x)): one expert, or what runs for every token. A
// factored matrix is the expert's A, [expert_size, rank].
struct MlpWeights {
  WeightView gate, up, down;

  int64_t bytes() const { return gate.bytes() + up.bytes() + down.bytes(); }
};

// What the experts of a layer, or of a group of them, share of one factored
// kind of matrix.
struct SharedBases {
  StoredBases bases;
  std::vector<float> alpha;  // [experts, num_bases]
};

struct FactoredWeights {
  Activation activation = Activation::kSilu;
  // One for each group of experts, which are as many in each. None: that matrix
  // is plain. What down's factors make is its transpose.
  std::vector<SharedBases> gate, up, down;

  int64_t bytes() const;  // of the bases
};

// Where the matrices of a kind are.
struct KindMembers {
  const MatrixKind& kind;
  WeightView MlpWeights::*matrix;
  std::vector<SharedBases> FactoredWeights::*shared;
};
inline constexpr KindMembers kKindMembers[] = {
    {kGateKind, &MlpWeights::gate, &FactoredWeights::gate},
    {kUpKind, &MlpWeights::up, &FactoredWeights::up},
    {kDownKind, &MlpWeights::down, &FactoredWeights::down}};

struct LayerWeights {
  AttentionWeights attention;
  std::vector<float> mlp_norm;  // [hidden]
  // What runs for every token: the whole of a dense layer, or shared experts.
  std::optional<MlpWeights> dense;
  // [hidden]: what shared experts make is multiplied by the sigmoid of its
  // product with x; empty: by 1.
  std::vector<float> shared_scale;
  std::vector<MlpWeights> experts;          // empty: a dense layer
  std::vector<float> router;                // [experts, hidden]
  std::vector<float> router_bias;           // [experts]; empty: none
  std::optional<FactoredWeights> factored;  // nothing: all are plain
};

struct Weights {
  WeightView embedding;  // [vocab, hidden]
  WeightView output;     // [vocab, hidden]; embedding again when tied
  // [hidden]; divided by the norms of output's columns where norm_head says so.
  std::vector<float> final_norm;
  std::vector<LayerWeights> layers;
  // Memory of the matrices that are no views into the checkpoint.
  std::vector<Buffer<std::byte>> owned;
};

// The model must outlive the weights.
Weights LoadWeights(const OpenedModel& model);

// One layer alone, as `layers[0]`, for running a model a layer at a time.
// Embedding, output and final norm are left out, factored experts as they are.
Weights LoadOneLayer(const OpenedModel& model, int64_t layer);
// Embedding, output and final norm alone, without layers.
Weights LoadHead(const OpenedModel& model);

// The memory of matrices: numbers, and their scales, if they have any.
std::vector<Plane> PlanesOf(const WeightView& w);
void AddPlanes(const MlpWeights& mlp, std::vector<Plane>* planes);
void AddPlanes(const FactoredWeights& factored, std::vector<Plane>* planes);

}  // namespace mobe
