// Folders as Hugging Face's tools make them, and what is wrong with those that
// hold no model: by name, and what to do.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/safetensors.h"

namespace mobe {

// The folder of a model that may be named as on the hub, "org/model": `name`
// itself where there is such a folder, or where it has no such form; else the
// main branch in Hugging Face's cache (HF_HUB_CACHE, HF_HOME and
// XDG_CACHE_HOME say where that is). Fails with kMissing where it has none.
std::filesystem::path ModelFolder(const std::string& name);

// "org/model" for a snapshot in Hugging Face's cache
// (.../models--org--model/snapshots/<commit>); nothing for other folders.
std::optional<std::string> HubName(const std::filesystem::path& folder);

// Where a job keeps its notes in the folder that it writes, until the model
// there is whole (compress/journal.h).
inline constexpr char kJobFolder[] = ".mobe";

// Fails with kMissing where there is no folder with a config.json: what it is
// instead, and where the model is.
void CheckModelFolder(const std::filesystem::path& folder);

// One without model.safetensors and without its index.
[[noreturn]] void FailWithoutWeights(const std::filesystem::path& folder);

// The index, of that path, names these files, which are not there.
[[noreturn]] void FailWithoutShards(const std::filesystem::path& index,
                                    const std::vector<std::string>& missing);

// Fails with kUnsupported when hf_quant_config.json tells of a quantisation
// (NVFP4, say), `config`, of config.json, does not, and the tensors have scales
// by its rules. It may be a leftover of a model that is quantised no more.
void CheckQuantConfig(const std::filesystem::path& folder, const Json& config,
                      const std::vector<const TensorView*>& tensors);

}  // namespace mobe
