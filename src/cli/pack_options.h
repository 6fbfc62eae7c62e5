// Options of commands that store matrices in few bits.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "compress/packing.h"

namespace mobe {

struct PackOptions {
  std::string format;  // empty: none
  std::vector<std::string> parts;
};

// Adds --format, which it returns, and --parts.
CLI::Option* AddPackOptions(CLI::App* command, PackOptions* options);

// Nothing without a format.
std::optional<PackRule> ToPackRule(const PackOptions& options);

}  // namespace mobe
