// The table of subcommands, in the order that --help shows.
#pragma once

#include "cli/command.h"

namespace mobe {

// Each in the file of its name.
void AddGenerate(CLI::App& app, CommonOptions* common);
void AddLogits(CLI::App& app, CommonOptions* common);

inline constexpr AddCommand kCommands[] = {
    AddGenerate,
    AddLogits,
};

}  // namespace mobe
