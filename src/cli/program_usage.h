// What the program can be told, as its parser of arguments knows it: the one
// source of --help, of the manual page and of the completions of shells.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace mobe {

struct OptionUsage {
  std::vector<std::string> names;  // "-p", "--prompt"; of a positional "model"
  bool positional = false;
  std::string help;
  std::string type;                 // "TEXT", "INT"; of a flag nothing
  std::vector<std::string> values;  // where no others are taken
  std::string default_value;
  bool required = false;
  bool repeats = false;  // takes several values
  std::vector<std::string> excludes;
  std::vector<std::string> needs;

  // May be the name of a file.
  bool text() const { return type == "TEXT" && values.empty(); }
};

struct CommandUsage {
  std::string name;
  std::string help;
  std::vector<OptionUsage> options;  // in the order of --help
};

struct ProgramUsage {
  CommandUsage program;
  std::vector<CommandUsage> commands;
};

ProgramUsage ReadUsage(const CLI::App& program);

// Calls `use` with each option of a command, and of its groups of options,
// which are subcommands without a name to CLI11.
template <class Use>
void ForEachOption(const CLI::App& command, const Use& use) {
  for (const CLI::Option* option : command.get_options()) {
    // A group has a --help of its own to CLI11.
    const bool is_group = command.get_name().empty();
    if (!is_group || option != command.get_help_ptr()) use(*option);
  }
  for (const CLI::App* group : command.get_subcommands(
           [](const CLI::App* part) { return part->get_name().empty(); })) {
    ForEachOption(*group, use);
  }
}

// What `print` makes of each, one after the other.
template <class List, class Print>
std::string PrintEach(const List& list, const Print& print) {
  std::string all;
  for (const auto& one : list) all += print(one);
  return all;
}

}  // namespace mobe
