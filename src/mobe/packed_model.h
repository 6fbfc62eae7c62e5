// A model some of whose matrices are packed (tensor/packed.h), or its bases
// (tensor/packed_bases.h): what config.json says of it. Which they are, and
// how, their tensors' names tell:
//
//   model.layers.3.self_attn.q_proj.weight.int4          U8, the codes
//   model.layers.3.self_attn.q_proj.weight.int4.scales   BF16
//   model.layers.3.mlp.B_gate.int8                       U8
//   model.layers.3.mlp.B_gate.int8.scales                BF16
//
// in place of model.layers.3.self_attn.q_proj.weight and
// model.layers.3.mlp.B_gate. config.json has the key
//
//   "mobe": {"version": 3, "packed": ["int4", "int8"], ...}
//
// with the formats in use, and with "activation" and "factors" as in version 2
// (mobe/format.h) where the model is factored, too; "num_B" is left out. A
// reader of version 2 refuses it by the number; one that knows nothing of mobe
// misses the tensors.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "mobe/open_model.h"

namespace mobe {

// Whether any of the model's tensors is packed.
bool HasPacked(const OpenedModel& model);
// config.json of a model, plain or factored, when those formats are in use;
// with none, as it is.
Json PackedConfig(const Json& config, const std::optional<MobeFormat>& mobe,
                  const std::set<std::string>& formats);

}  // namespace mobe
