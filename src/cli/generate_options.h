// Options of the commands that generate text.
#pragma once

#include <filesystem>

#include "cli/command.h"
#include "model/generate.h"

namespace mobe {

// Adds --max-tokens, the sampler's options and --stop. Filled before the
// command's callback runs.
void AddGenerateOptions(CLI::App* command, GenerateOptions* options);

// Gives what the user has not chosen the model's own values: those of its
// generation_config.json, else what AddGenerateOptions shows. To be called by
// the command's callback.
void TakeModelsSampling(const CLI::App& command,
                        const std::filesystem::path& folder,
                        GenerateOptions* options);

// {"text": ..., "prompt_tokens": ...}: what the commands print with --json.
Json GenerateJson(const std::string& text, const GenerateResult& result);

}  // namespace mobe
