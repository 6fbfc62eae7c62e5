// Options of every command that runs a model.
#pragma once

#include "cli/command.h"
#include "model/weights.h"

namespace mobe {

// Adds --dtype, --experts and --cache; defaults are what *options has. Filled
// before the command's callback runs.
void AddRunOptions(CLI::App* command, LoadOptions* options);

}  // namespace mobe
