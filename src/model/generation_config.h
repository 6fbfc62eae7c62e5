// How a model's makers want it to be sampled.
#pragma once

#include <filesystem>

#include "model/sampler.h"

namespace mobe {

// `options` with what generation_config.json of a model's folder has of
// temperature, top_k, top_p, min_p and repetition_penalty, as vLLM takes them;
// do_sample is not looked at, but for a false one, which is a temperature of 0.
// Without the file, `options`. Fails with kCorruptFile for values out of range.
SamplerOptions WithGenerationConfig(const std::filesystem::path& folder,
                                    SamplerOptions options);

}  // namespace mobe
