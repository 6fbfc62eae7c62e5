#include "cli/program_usage.h"

#include <algorithm>
#include <set>
#include <string_view>

namespace mobe {
namespace {

// "TEXT:{even,auto}" is a type and the values that it may have.
void ReadType(std::string_view text, OptionUsage* usage) {
  usage->type = text.substr(0, text.find(':'));
  const size_t open = text.find('{');
  if (open == std::string_view::npos) return;
  text = text.substr(open + 1, text.find('}', open) - open - 1);
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    usage->values.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
}

// Sorted: CLI11 keeps them by their addresses.
std::vector<std::string> NamesOfOptions(const std::set<CLI::Option*>& options) {
  std::vector<std::string> names;
  names.reserve(options.size());
  for (const CLI::Option* option : options) {
    names.push_back(option->get_name());
  }
  std::ranges::sort(names);
  return names;
}

OptionUsage ReadOption(const CLI::Option& option) {
  OptionUsage usage;
  usage.positional = option.get_positional();
  if (usage.positional) {
    usage.names.push_back(option.get_single_name());
  }
  for (const std::string& name : option.get_snames()) {
    usage.names.push_back("-" + name);
  }
  for (const std::string& name : option.get_lnames()) {
    usage.names.push_back("--" + name);
  }
  usage.help = option.get_description();
  if (option.get_items_expected_max() > 0) {
    ReadType(option.get_type_name(), &usage);
    usage.default_value = option.get_default_str();
  }
  usage.required = option.get_required();
  usage.repeats = option.get_items_expected_max() > 1;
  usage.excludes = NamesOfOptions(option.get_excludes());
  usage.needs = NamesOfOptions(option.get_needs());
  return usage;
}

CommandUsage ReadCommand(const CLI::App& app) {
  CommandUsage usage{app.get_name(), app.get_description(), {}};
  ForEachOption(app, [&](const CLI::Option& option) {
    usage.options.push_back(ReadOption(option));
  });
  return usage;
}

}  // namespace

ProgramUsage ReadUsage(const CLI::App& program) {
  ProgramUsage usage{ReadCommand(program), {}};
  for (const CLI::App* command : program.get_subcommands(
           [](const CLI::App* part) { return !part->get_name().empty(); })) {
    usage.commands.push_back(ReadCommand(*command));
  }
  return usage;
}

}  // namespace mobe
