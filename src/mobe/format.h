// The native MoBE format: names and shapes of the factored tensors, and what
// config.json says of them. It is the reference implementation's format
// (arXiv 2508.05257) wherever that can express the model:
//
//   model.layers.{i}.mlp.B_gate, B_up     [num_bases, rank, hidden]
//   model.layers.{i}.mlp.W_gate, W_up     [experts, num_bases]: alpha as used
//   ...experts.{j}.gate_proj, up_proj     [expert_size, rank]: A, scale
//   included config.json: "num_B", "activation"; "auto_map"
//                         (mobe/modeling_file.h)
//
// (in place of "mlp" whatever the family calls what holds its experts), with
// rank = expert_size and the same num_bases everywhere; or, as it writes
// Kimi-K2, with the experts of a layer in two groups, each with half of the
// bases for itself, which only the names tell:
//
//   ...mlp.B_gate_0, B_gate_1, B_up_0, ...    [num_B / 2, rank, hidden]
//   ...mlp.W_gate_0, W_gate_1, W_up_0, ...    [experts / 2, num_B / 2]
//
// Group g has the experts from g experts / 2 on. What the reference can't
// express is stored alike, under names of the same kind:
//
//   model.layers.{i}.mlp.B_down, W_down   of the transpose of down, so that the
//   ...experts.{j}.down_proj              shapes are those of gate and up
//   model.layers.{i}.mlp.B_gate_U         [num_bases, rank, basis_rank]: low-
//   model.layers.{i}.mlp.B_gate_V         [num_bases, basis_rank, hidden]: rank
//                                         bases B_i = U_i V_i, for any kind
//
// and is told under the key "mobe" with a version. "num_B" is left out then, so
// that the reference refuses the model rather than misreads it:
//
//   "mobe": {"version": 2, "activation": "identity",
//            "factors": [{"matrix": "gate", "layers": [2, 3], "num_B": 8,
//                         "rank": 32, "basis_rank": 4, "groups": 2}, ...]}
//
// where "basis_rank" is missing for bases stored whole, and "groups" where all
// experts share all bases. (A reader of version 2 that knows no groups misses
// the tensors without a number, and so refuses them.) Version 1, which is read
// but no longer written, has "num_B", "activation" and "layers" for gate and up
// in some of the layers. Version 3 is of models with packed matrices, factored
// or not (mobe/packed_model.h). Sparse alpha is stored dense, with zeros.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "families/family.h"
#include "io/checkpoint.h"
#include "kernels/kernels.h"

namespace mobe {

inline constexpr int kFormatVersion = 3;

// One of an expert's three matrices.
struct MatrixKind {
  const char* name;  // "gate": in messages, options, JSON and tensor names
  Role expert;       // the dense matrix, or A under the same name
  Role bases;        // B
  Role left, right;  // U and V in place of B
  Role alpha;        // W
  // A f(alpha B) is the transpose of the matrix. Its rows then lie along the
  // hidden axis too, which is what the experts share.
  bool transposed;

  // Whether such a tensor is one of the kind: dense, or a factor.
  bool Has(Role role) const {
    return role == expert || role == bases || role == left || role == right ||
           role == alpha;
  }
};
inline constexpr MatrixKind kMatrixKinds[] = {
    {"gate", Role::kExpertGate, Role::kGateBases, Role::kGateLeft,
     Role::kGateRight, Role::kGateAlpha, false},
    {"up", Role::kExpertUp, Role::kUpBases, Role::kUpLeft, Role::kUpRight,
     Role::kUpAlpha, false},
    {"down", Role::kExpertDown, Role::kDownBases, Role::kDownLeft,
     Role::kDownRight, Role::kDownAlpha, true}};
inline constexpr const MatrixKind& kGateKind = kMatrixKinds[0];
inline constexpr const MatrixKind& kUpKind = kMatrixKinds[1];
inline constexpr const MatrixKind& kDownKind = kMatrixKinds[2];

// Null when there is no such kind.
const MatrixKind* KindFromName(std::string_view name);
const MatrixKind* KindOf(Role role);

// How one kind of one layer is factored.
struct FactorShape {
  int64_t layer = 0;
  const MatrixKind* kind = nullptr;  // in kMatrixKinds
  int64_t num_bases = 0;             // of all groups
  int64_t rank = 0;
  int64_t basis_rank = 0;  // of low-rank bases; 0: they are stored whole
  // Groups of experts, each with as many of the bases, which the others don't
  // use. Divides the experts and num_bases.
  int64_t groups = 1;

  bool operator==(const FactorShape&) const = default;
};

// Experts [first, first + count), which share bases.
struct ExpertGroup {
  int64_t first = 0;
  int64_t count = 0;
  int64_t index = -1;  // in the names of tensors; -1: the only group has none
};
ExpertGroup GroupAt(const ModelConfig& config, const FactorShape& shape,
                    int64_t index);
std::vector<ExpertGroup> GroupsOf(const ModelConfig& config,
                                  const FactorShape& shape);

// How a model is factored.
struct MobeFormat {
  Activation activation = Activation::kSilu;
  // What is factored, by layer and then in the order of kMatrixKinds.
  std::vector<FactorShape> factors;

  // Null when that is as in the original.
  const FactorShape* Find(int64_t layer, const MatrixKind& kind) const;
  std::vector<int64_t> Layers() const;  // with anything factored, ascending
};

// `group` is ExpertGroup::index.
std::string BasesName(const Family& family, int64_t layer,
                      const MatrixKind& kind, int64_t group = -1);
std::string LeftName(const Family& family, int64_t layer,
                     const MatrixKind& kind, int64_t group = -1);
std::string RightName(const Family& family, int64_t layer,
                      const MatrixKind& kind, int64_t group = -1);
std::string AlphaName(const Family& family, int64_t layer,
                      const MatrixKind& kind, int64_t group = -1);

// What the checkpoint holds: told by its tensors, not by its config, which must
// then agree. Nothing for a plain model. Shapes are those of the config; that
// the tensors have them is for the caller to check (CheckTensor). Fails with
// kCorruptFile when config and tensors disagree on what is factored,
// kUnsupported for forms not known.
std::optional<MobeFormat> DetectFormat(const Family& family,
                                       const Checkpoint& checkpoint,
                                       const ModelConfig& config);

// Whether the object under "mobe" is that of a plain model with packed matrices
// (mobe/packed_model.h).
bool IsOnlyPacked(const ConfigReader& mobe);

// A format from an object with "activation" and "factors", as config.json has
// it in version 2. Fails with kCorruptFile where it does not fit the model.
MobeFormat ReadTable(const ConfigReader& reader, const ModelConfig& config);

// The tensors of a model of this format, layer by layer.
std::vector<TensorSpec> ListTensors(const Family& family,
                                    const ModelConfig& config,
                                    const MobeFormat& format);

// The object under "mobe" in config.json, of version 2.
Json FormatTable(const MobeFormat& format);
// config.json of the factored model, from that of the original; and back.
Json FactoredConfig(Json original, const ModelConfig& config,
                    const MobeFormat& format);
Json PlainConfig(Json factored);

// For --json: "num_bases", "rank", "basis_rank" and "groups" (null where they
// vary), "activation", "layers", "matrices", and "factors" as in config.json.
Json DescribeFormat(const MobeFormat& format);
// The same in words: "gate and up of 6 layers, 8 bases of rank 96, silu".
std::string SummarizeFormat(const MobeFormat& format);

}  // namespace mobe
