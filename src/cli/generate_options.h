// Options of the commands that generate text.
#pragma once

#include "cli/command.h"
#include "model/generate.h"

namespace mobe {

// Adds --max-tokens, the sampler's options and --stop. Filled before the
// command's callback runs.
void AddGenerateOptions(CLI::App* command, GenerateOptions* options);

// {"text": ..., "prompt_tokens": ...}: what the commands print with --json.
Json GenerateJson(const std::string& text, const GenerateResult& result);

}  // namespace mobe
