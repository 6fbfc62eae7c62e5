// The native MoBE format: names and shapes of the factored tensors, and what
// config.json says of them. It is the reference implementation's format
// (arXiv 2508.05257) wherever that can express the model:
//
//   model.layers.{i}.mlp.B_gate, B_up     [num_bases, rank, hidden]
//   model.layers.{i}.mlp.W_gate, W_up     [experts, num_bases]: alpha as used
//   ...experts.{j}.gate_proj, up_proj     [expert_size, rank]: A, scale
//   included config.json: "num_B", "activation"
//
// What it can't express (identity, some layers only) is said instead under the
// key "mobe" with a version, and "num_B" is left out, so that the reference
// refuses the model rather than misreads it:
//
//   "mobe": {"version": 1, "num_B": 8, "activation": "identity",
//            "layers": [2, 3]}
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "families/family.h"
#include "io/checkpoint.h"
#include "kernels/kernels.h"

namespace mobe {

inline constexpr int kFormatVersion = 1;

// The two expert matrices that are factored.
struct MatrixKind {
  const char* name;        // "gate": in messages, options and JSON
  Role expert;             // the dense matrix, or A under the same name
  Role bases;              // B
  Role alpha;              // W
  const char* bases_name;  // "B_gate"
  const char* alpha_name;  // "W_gate"
};
inline constexpr MatrixKind kGateKind = {"gate",           Role::kExpertGate,
                                         Role::kGateBases, Role::kGateAlpha,
                                         "B_gate",         "W_gate"};
inline constexpr MatrixKind kUpKind = {
    "up", Role::kExpertUp, Role::kUpBases, Role::kUpAlpha, "B_up", "W_up"};
inline constexpr MatrixKind kMatrixKinds[] = {kGateKind, kUpKind};

// How a model is factored.
struct MobeFormat {
  int64_t num_bases = 0;
  int64_t rank = 0;
  Activation activation = Activation::kSilu;
  std::vector<int64_t> layers;  // the factored layers, ascending

  bool Has(int64_t layer) const;
};

std::string BasesName(int64_t layer, const MatrixKind& kind);
std::string AlphaName(int64_t layer, const MatrixKind& kind);

// What the checkpoint holds: told by its tensors, not by its config, whose
// num_B must then agree. Nothing for a plain model. Fails with kCorruptFile
// when a layer is factored in part, kUnsupported for forms not known.
std::optional<MobeFormat> DetectFormat(const Checkpoint& checkpoint,
                                       const ModelConfig& config);

// The tensors of a model of this format, layer by layer.
std::vector<TensorSpec> ListTensors(const Family& family,
                                    const ModelConfig& config,
                                    const MobeFormat& format);

// config.json of the factored model, from that of the original; and back.
Json FactoredConfig(Json original, const ModelConfig& config,
                    const MobeFormat& format);
Json PlainConfig(Json factored);

}  // namespace mobe
