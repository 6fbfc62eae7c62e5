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

// Adds --format to a group of the command, or to itself, and --parts and
// --part-formats.
void AddPackOptions(CLI::App* command, CLI::App* group, PackOptions* options);

std::vector<const QuantPart*> PartsOf(const PackOptions& options);
// Nothing without a format.
std::optional<PackRule> ToPackRule(const PackOptions& options);

}  // namespace mobe
