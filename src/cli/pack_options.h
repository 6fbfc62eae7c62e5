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
  std::vector<std::string> others;  // PartFormatOf them
};

// Adds --format, which it returns, --parts and --part-formats.
CLI::Option* AddPackOptions(CLI::App* command, PackOptions* options);

std::vector<const QuantPart*> PartsOf(const PackOptions& options);
// Nothing without a format.
std::optional<PackRule> ToPackRule(const PackOptions& options);

}  // namespace mobe
