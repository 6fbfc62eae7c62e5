// Options of every command that runs a model.
#pragma once

#include <string>
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

// Adds --verbose.
void AddVerbose(CLI::App* command, CommonOptions* common);

// With --verbose, what a model has run, on stderr: how fast, which is for
// commands that do not tell it anyway, and a line for each way that experts run
// in. `name`: whose lines they are, where there are several models.
void PrintSpeed(const RunStatistics& run, const CommonOptions& common,
                const std::string& name = "");
void PrintExperts(const Model& model, const RunStatistics& run,
                  const CommonOptions& common, const std::string& name = "");

// Says on stderr how memory is used, unless it is enough for everything.
void PrintMemory(const Model& model, const CommonOptions& common);

}  // namespace mobe
