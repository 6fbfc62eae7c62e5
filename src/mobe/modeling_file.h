// The Python file by which transformers loads a native folder, and the keys of
// config.json that name it:
//
//   "auto_map": {"AutoModelForCausalLM": "modeling_mobe.MobeForCausalLM"}
//   "plain_auto_map": what the original has under "auto_map", if anything
//
// A class of the original's own for its config is asked through ours, too
// ("AutoConfig": "modeling_mobe.MobeConfig"); its other classes stay as they
// are, but AutoModel, which would take the factors for whole matrices.
#pragma once

#include <string_view>

#include "base/json.h"

namespace mobe {

inline constexpr char kModelingFile[] = "modeling_mobe.py";

// The file's text.
std::string_view ModelingFile();

// Adds the keys to a config, if it has not got them; takes them out again; and
// tells whether they are there.
void AddAutoMap(Json* config);
void RemoveAutoMap(Json* config);
bool HasAutoMap(const Json& config);

// Whether transformers runs code of the original's own for the plain model, and
// so asks for trust_remote_code=True.
bool NeedsOwnCode(const Json& config);

}  // namespace mobe
