// Options of every command that runs a model.
#pragma once

#include <vector>

#include "cli/command.h"
#include "model/model.h"

namespace mobe {

// Adds --dtype, --experts, --built-format, --memory and --cache; defaults are
// what *options has. Filled before the command's callback runs.
void AddRunOptions(CLI::App* command, LoadOptions* options);

// The same with lists of values, for a command that tries all of them.
struct RunOptionLists {
  std::vector<std::optional<Precision>> precisions = {std::nullopt};
  std::vector<ExpertMode> experts = {ExpertMode::kAuto};
  LoadOptions rest = kTextOptions;

  std::vector<LoadOptions> All() const;  // combinations
};
void AddRunOptionLists(CLI::App* command, RunOptionLists* lists);

// Says on stderr how memory is used, unless it is enough for everything.
void PrintMemory(const Model& model, const CommonOptions& common);

}  // namespace mobe
