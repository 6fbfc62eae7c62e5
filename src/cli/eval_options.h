// Options of every command that measures models on a text.
#pragma once

#include <cstdint>
#include <string>

#include "cli/command.h"
#include "eval/run.h"
#include "model/weights.h"

namespace mobe {

struct EvalCommandOptions {
  std::string file;
  std::string protocol;
  int64_t max_tokens = INT64_MAX;
  int64_t context = 0;
  LoadOptions load = {.sequences = 8};
};

// Adds the file, --protocol, --max-tokens, --context, the run options,
// --verbose and the common ones. Filled before the command's callback runs.
void AddEvalOptions(CLI::App* command, EvalCommandOptions* options,
                    CommonOptions* common);
// The same without the file and --verbose.
void AddWindowOptions(CLI::App* command, EvalCommandOptions* options,
                      CommonOptions* common);

// What the library takes of them.
EvalOptions ToEvalOptions(const EvalCommandOptions& options,
                          ProgressFn progress);

// The keys of every such command.
void AddRunKeys(const EvalOptions& options, const EvalRun& run, Json* json);

// "32752 tokens in 12s (2729 tok/s), protocol hf, context 2048"
std::string RunText(const EvalOptions& options, const EvalRun& run);

}  // namespace mobe
