// The table of subcommands, in the order that --help shows.
#pragma once

#include "cli/command.h"

namespace mobe {

inline constexpr AddCommand kCommands[] = {
    // One line each.
    nullptr,
};

}  // namespace mobe
