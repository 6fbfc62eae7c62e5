// A model family as data: how its config.json is read, and a table of its
// tensors, with names and shapes as formulas of the config. A new family is one
// file with one such table (common.h has the rows that all have so far);
// nothing else in the project knows tensor names.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/config.h"

namespace mobe {

// How frequencies are changed for contexts longer than those of training, as
// transformers names it in "rope_type".
enum class RopeType { kDefault, kLinear, kLlama3, kYarn, kLongRope };

// Rotary position embedding (Su et al. 2021, arXiv 2104.09864), for longer
// contexts by yarn (Peng et al. 2023, arXiv 2309.00071), LongRoPE (Ding et al.
// 2024, arXiv 2402.13753) or in Llama 3's way.
struct Rope {
  RopeType type = RopeType::kDefault;
  double theta = 0;
  int64_t dim = 0;  // numbers of a head that are rotated, its first; even
  bool interleaved = false;  // pairs are (2i, 2i + 1), not (i, i + dim / 2)
  double factor = 1;         // of the context
  int64_t original_positions = 0;
  // Turns in the original context from which on a pair is left as it is, and
  // up to which it is slowed down by `factor`. Llama 3 calls them
  // high_freq_factor and low_freq_factor.
  double beta_fast = 0, beta_slow = 0;
  std::vector<double> pair_factors;  // LongRoPE: each pair is slowed by its own
  float amplitude = 1;               // of cosines and sines
  // Of queries and of keys, for families that scale attention by yarn's mscale.
  double attention_scale = 1;

  bool operator==(const Rope&) const = default;
};

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values
// of all heads are products of one latent vector for each token.
struct LatentSizes {
  int64_t kv_rank = 0;     // of that vector; 0: no latent attention
  int64_t query_rank = 0;  // 0: queries are made of the hidden state directly
  int64_t nope = 0;        // numbers of a key that are not rotated
};

// Gated delta nets (Yang et al. 2024, arXiv 2412.06464): layers that keep, in
// place of keys and values, a matrix for each head, whatever the context.
struct DeltaSizes {
  int64_t key_heads = 0;    // of queries, too; 0: no layer is such a net
  int64_t value_heads = 0;  // a multiple: those in a row share a key head
  int64_t key_dim = 0;      // of a head's queries and keys
  int64_t value_dim = 0;
  int64_t window = 0;  // tokens that the convolution before them sees

  int64_t keys() const { return key_heads * key_dim; }
  int64_t values() const { return value_heads * value_dim; }
  // What the convolution is over: queries, keys and values.
  int64_t channels() const { return 2 * keys() + values(); }
};

// Which numbers of a query or a key have an RMS norm together.
enum class QueryKeyNorm { kNone, kHead, kWhole };

enum class Scoring { kSoftmax, kSigmoid };

// How a router picks experts from its logits; model/router.h has the formulas.
struct RouterRule {
  Scoring scoring = Scoring::kSoftmax;
  bool bias = false;  // a bias for each expert, in picking only
  // Experts are picked from the best `kept_groups` of `groups` equal groups.
  int64_t groups = 1;
  int64_t kept_groups = 1;
  bool normalise = false;  // a token's weights are divided by their sum
  float scale = 1;         // and then multiplied by this
};

// Hyperparameters, in the field's terms. Sizes count elements.
struct ModelConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t extra_layers =
      0;  // behind those, for multi-token prediction: not run
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // divides num_heads
  int64_t head_dim = 0;      // of queries and keys
  // config.json has none: it is hidden_size / num_attention_heads.
  bool head_dim_inferred = false;
  int64_t value_dim = 0;  // of a head's values
  int64_t max_positions = 0;
  Rope rope;
  LatentSizes latent;
  DeltaSizes delta;
  // Which layers are delta nets: all but each attention_interval-th; 0: those
  // listed, which ascend. The others have attention.
  int64_t attention_interval = 0;
  std::vector<int64_t> delta_layers;
  // What attention gives is multiplied by the sigmoid of a product with x,
  // whose rows are in the query matrix: for each head the query's, then these.
  bool attention_gate = false;
  float attention_scale = 0;  // of the products of queries and keys
  float rms_norm_eps = 0;
  // What the weights of norms over the hidden state, of queries and of keys are
  // stored without: 1 where such a norm multiplies by 1 + weight.
  float norm_offset = 0;
  QueryKeyNorm query_key_norm = QueryKeyNorm::kNone;
  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool tie_embeddings = false;
  bool has_vision = false;  // takes pictures, too: not run
  bool norm_head = false;   // lm_head's columns are divided by their L2 norm

  int64_t dense_size = 0;   // intermediate size of layers without experts
  int64_t expert_size = 0;  // intermediate size of one expert
  int64_t shared_size = 0;  // of all shared experts together; 0: none
  // What they make is multiplied by the sigmoid of a product with x
  // (Qwen2-MoE).
  bool shared_scaled = false;
  int64_t num_experts = 0;
  int64_t experts_per_token = 0;  // in [1, num_experts]
  RouterRule router;

  // Which layers have experts: of those from first_moe_layer on, the ones with
  // (layer + 1) % moe_layer_step == 0 that are not listed.
  int64_t first_moe_layer = 0;
  int64_t moe_layer_step = 1;
  std::vector<int64_t> dense_layers;

  bool IsMoeLayer(int64_t layer) const;
  std::vector<int64_t> MoeLayers() const;  // ascending
  bool IsDeltaLayer(int64_t layer) const;
  bool IsLatent() const { return latent.kv_rank > 0; }
  bool HasDeltaNets() const { return delta.key_heads > 0; }
};

// What a tensor is for.
enum class Role {
  kEmbedding,
  kFinalNorm,
  kOutput,  // lm_head
  kAttentionNorm,
  kQuery,
  kKey,
  kValue,
  kAttentionOutput,
  kQueryBias,
  kKeyBias,
  kValueBias,
  kAttentionOutputBias,
  kQueryKeyValue,  // the three, one below the other
  kQueryKeyValueBias,
  kQueryNorm,
  kKeyNorm,
  // Of gated delta nets: what makes queries, keys, values and gates of the
  // hidden state, and the rates of each value head: how much of a value is
  // written (beta), and of the state forgotten (decay).
  kDeltaQueryKeyValue,
  kDeltaGate,
  kDeltaBeta,
  kDeltaDecay,
  kDeltaInputs,  // the first two in one, and the others, by key heads
  kDeltaRates,
  kDeltaConvolution,
  kDeltaDecayBias,
  kDeltaDecayLog,
  kDeltaNorm,
  kDeltaOutput,
  // Of latent attention, whose kQuery or kQueryUp makes the queries.
  kQueryDown,
  kQueryDownNorm,
  kQueryUp,
  kLatentDown,  // the latent vector, and below it the rotated key
  kLatentNorm,
  kLatentUp,  // for each head, keys and below them values
  kMlpNorm,
  kRouter,
  kRouterBias,
  kSharedGate,
  kSharedUp,
  kSharedDown,
  kSharedScale,
  kExpertGate,
  kExpertUp,
  kExpertDown,
  kDenseGate,
  kDenseUp,
  kDenseDown,
  // Of a factored layer, in the native format (mobe/format.h).
  kGateBases,
  kGateLeft,
  kGateRight,
  kGateAlpha,
  kUpBases,
  kUpLeft,
  kUpRight,
  kUpAlpha,
  kDownBases,
  kDownLeft,
  kDownRight,
  kDownAlpha,
};

// Which layers and experts a row of the table stands for.
enum class Scope {
  kModel,
  kLayer,
  kAttentionLayer,
  kDeltaLayer,
  kDenseLayer,
  kMoeLayer,
  kExpert
};

// One dimension, as a formula.
using Dim = int64_t (*)(const ModelConfig&);

// How an expert's parts of a stacked tensor lie: one below the other; or so of
// the transposed matrix, side by side (Llama 4) or their columns in turns
// (gpt-oss), which in MXFP4 is not transposed.
enum class Stacking { kParts, kPartsTransposed, kTurnsTransposed };

// How a row's tensors may be stored, too: one below the other in one tensor of
// a layer, [experts, parts * rows, cols], in which an expert's are part `part`
// of its own. transformers 5 has gate and up so, and down (with one part).
struct Stacked {
  const char* name = nullptr;  // as TensorRow::name; null: never
  int64_t part = 0;
  int64_t parts = 1;
  // The family's own classes read no other form: a plain model is written so.
  bool always = false;
  Stacking stacking = Stacking::kParts;
  bool is_matrix = false;  // the experts are one below the other, too (DBRX)
};

struct TensorRow {
  Role role = Role::kEmbedding;
  Scope scope = Scope::kModel;
  const char* name = nullptr;  // "{layer}" and "{expert}": the numbers
  Dim rows = nullptr;
  Dim cols = nullptr;                          // null for a vector
  bool (*when)(const ModelConfig&) = nullptr;  // null: always
  Stacked stacked = {};                        // of experts
  // Stored as [rows, 1, cols]: a convolution of each row for itself.
  bool depthwise = false;
};

struct Family {
  const char* model_type;  // as in config.json
  // Fails as ConfigReader does, and with kUnsupported for what can't be run.
  ModelConfig (*read_config)(const ConfigReader&);
  std::span<const TensorRow> rows;
  // False: mobe factors the experts of such models, and knows nothing else of
  // them. Which layers have experts their tensors say (open_model.h).
  bool runs = true;
  // The same with other names of tensors, where publishers and transformers
  // write different ones; which it is the tensors say.
  const Family* otherwise = nullptr;
  // What stands where names in the table begin with "model.".
  const char* prefix = "model.";
};

// Every family there is.
std::span<const Family* const> Families();
// By "model_type"; fails with kUnsupported, listing the supported ones.
const Family& FamilyOf(const ConfigReader& config);

// Fails with kUnsupported, naming the folder, where mobe only factors such
// models.
void CheckRuns(const Family& family, const std::string& folder);

// One tensor that a model must have.
struct TensorSpec {
  Role role;
  int64_t layer = -1;   // -1: of the whole model
  int64_t expert = -1;  // -1: of the whole layer
  std::string name;
  std::vector<int64_t> shape;
};

// All tensors of a plain (not factored) model, layer by layer.
std::vector<TensorSpec> ListTensors(const Family& family,
                                    const ModelConfig& config);

// Whether models of this config have tensors of the role.
bool HasRole(const Family& family, const ModelConfig& config, Role role);

// The name of one tensor of the table.
std::string TensorName(const Family& family, Role role, int64_t layer = -1,
                       int64_t expert = -1);

// A tensor that may stand for those of a layer's experts.
struct StackedSpec {
  std::string name;
  // [experts, rows of all parts, cols]; the last two swapped where transposed,
  // and the first two in one of a matrix.
  std::vector<int64_t> shape;
  std::vector<Role> parts;  // each of as many rows
  int64_t rows = 0;         // of a part
  int64_t cols = 0;
  bool always = false;  // as of Stacked
  Stacking stacking = Stacking::kParts;
};
std::vector<StackedSpec> ListStacked(const Family& family,
                                     const ModelConfig& config, int64_t layer);

// Where the numbers of a part of an expert lie in it, in elements.
struct PartPlace {
  int64_t first = 0;
  int64_t row_stride = 0;
  int64_t col_stride = 0;
};
PartPlace PlaceOf(const StackedSpec& spec, int64_t part);

// Whether a tensor that is in no table is known to take no part in what is run:
// that of layers for multi-token prediction, of what sees pictures, and what
// old versions of transformers stored of rotary embeddings, which follows from
// config.json.
bool IsNotRun(const ModelConfig& config, std::string_view tensor);

// Rotary embedding of heads of `head_dim` numbers (rope_theta, rope_scaling,
// rope_parameters). `rotated_share` is the part of them that is rotated where
// config.json does not say it; nothing: all are in this family. With
// `has_grids`, pairs may be shared out to time, height and width of pictures
// (mrope_section), which are all the same in a text. Fails with kUnsupported
// for a type that is not known, and where two places disagree.
Rope ReadRope(const ConfigReader& reader, int64_t head_dim,
              int64_t max_positions, double theta = 10000,
              std::optional<double> rotated_share = std::nullopt,
              bool has_grids = false);
// How many positions a model takes: yarn extends what it was trained with by
// its factor, also where max_position_embeddings was left at that. With
// LongRoPE it takes what it was trained with: the factors of longer texts would
// hold for all positions, and so for keys that are cached with the others.
int64_t PositionsOf(const Rope& rope, int64_t max_positions);
// By what yarn raises the entropy of attention: 0.1 m ln(factor) + 1.
double YarnScale(double factor, double m);

// Checks that every family needs: divisibility, ranges, hidden_act, and that
// each key of config.json has been read or is known to be harmless
// (kUnsupported otherwise). The last thing that read_config does.
void CheckConfig(const ModelConfig& config, const ConfigReader& reader);

}  // namespace mobe
