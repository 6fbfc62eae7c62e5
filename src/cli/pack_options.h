// Options of commands that store matrices in few bits.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "compress/packing.h"
#include "fit/refit.h"

namespace mobe {

struct PackOptions {
  std::string format;  // empty: none
  std::vector<std::string> parts;
  std::vector<std::string> others;  // PartFormatOf them
  int64_t refit_passes = kRefitPasses;
};

// Adds --format to a group of the command, or to itself, and --parts,
// --part-formats and --refit-passes.
void AddPackOptions(CLI::App* command, CLI::App* group, PackOptions* options);

std::vector<const QuantPart*> PartsOf(const PackOptions& options);
// Of a model of so many layers; nothing without a format.
std::optional<PackRule> ToPackRule(const PackOptions& options, int64_t layers);

}  // namespace mobe
