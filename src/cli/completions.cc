// mobe completions SHELL: a script by which the shell completes mobe's
// arguments. Each is a table and, but for fish, a function that reads it. Where
// the table has nothing the shell completes names of files.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <memory>
#include <string_view>

#include "cli/command.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/program_usage.h"

namespace mobe {
namespace {

// With a backslash before what is special.
std::string Escaped(std::string_view text, std::string_view special) {
  std::string escaped;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

// In single quotes, which take all but themselves as it is.
std::string ShellQuoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') quoted += "'\\'";
    quoted += c;
  }
  return quoted + "'";
}

std::string Spaced(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

// ---- bash

constexpr const char* kBash = R"(
_mobe() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
  # --option=value is three words.
  [[ $word == = ]] && word=
  [[ $before == = ]] && before=${COMP_WORDS[COMP_CWORD-2]}
  local key="${COMP_WORDS[1]} $before"
  if [[ $COMP_CWORD -eq 1 ]]; then
    key=mobe
  elif [[ -z ${_mobe_words[$key]+set} ]]; then
    [[ $word == -* ]] || return
    key=${COMP_WORDS[1]}
  fi
  local words=${_mobe_words[$key]-}
  # A number, which no file is.
  [[ $words ]] || compopt +o default
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -o default -F _mobe mobe
)";

std::string BashRow(const std::string& key, const std::string& words) {
  return fmt::format("  ['{}']={}\n", key, ShellQuoted(words));
}

// A command's options, and the values of each that has some.
std::string BashRows(const CommandUsage& command) {
  std::string options;
  std::string rows;
  for (const OptionUsage& option : command.options) {
    if (!option.positional) options += Spaced(option.names) + " ";
    if (option.type.empty() || option.text()) continue;
    // The first argument stands behind the command.
    for (const std::string& name : option.names) {
      rows += BashRow(
          command.name + " " + (option.positional ? command.name : name),
          Spaced(option.values));
    }
  }
  return BashRow(command.name, options) + rows;
}

std::string BashScript(const ProgramUsage& usage) {
  std::string first;
  for (const CommandUsage& command : usage.commands) {
    first += command.name + " ";
  }
  for (const OptionUsage& option : usage.program.options) {
    first += Spaced(option.names) + " ";
  }
  return "# What may stand behind: mobe, a command, a command's option.\n"
         "declare -gA _mobe_words=(\n" +
         BashRow("mobe", first) + PrintEach(usage.commands, BashRows) + ")\n" +
         kBash;
}

// ---- zsh

constexpr const char* kZshBegin = R"(#compdef mobe
_mobe() {
  local -a commands=(
)";

constexpr const char* kZshCommands = R"(  )
  if (( CURRENT == 2 )); then
    [[ $words[2] == -* ]] || _describe command commands
    set -- mobe
  else
    shift words
    (( CURRENT-- ))
    set -- $words[1]
  fi
  case $1 in
)";

constexpr const char* kZshEnd = R"(  esac
}
# Called to complete, or read by a shell that is to do so.
if [[ $funcstack[1] == _mobe ]]; then _mobe; else compdef _mobe mobe; fi
)";

// What completes a value.
std::string ZshAction(const OptionUsage& option) {
  if (option.text()) return "_files";
  if (option.values.empty()) return " ";
  return fmt::format("({})", Spaced(option.values));
}

// A line for each name.
std::string ZshOption(const OptionUsage& option) {
  const char* star = option.repeats ? "*" : "";
  const std::string value =
      option.type.empty()
          ? ""
          : fmt::format(":{}:{}", option.names.front(), ZshAction(option));
  return PrintEach(option.names, [&](const std::string& name) {
    if (option.positional) {
      return fmt::format(" \\\n        {}", ShellQuoted(star + value));
    }
    const char* joint = value.empty() ? "" : name.starts_with("--") ? "=" : "+";
    return fmt::format(
        " \\\n        {}",
        ShellQuoted(fmt::format("{}{}{}[{}]{}", star, name, joint,
                                Escaped(option.help, "\\[]:"), value)));
  });
}

std::string ZshCase(const CommandUsage& command) {
  return fmt::format("    {})\n      _arguments{} ;;\n", command.name,
                     PrintEach(command.options, ZshOption));
}

std::string ZshScript(const ProgramUsage& usage) {
  const auto row = [](const CommandUsage& command) {
    return fmt::format("    {}\n",
                       ShellQuoted(command.name + ":" + command.help));
  };
  return kZshBegin + PrintEach(usage.commands, row) + kZshCommands +
         ZshCase(usage.program) + PrintEach(usage.commands, ZshCase) + kZshEnd;
}

// ---- fish

std::string FishOption(const std::string& condition,
                       const OptionUsage& option) {
  if (option.positional) {
    if (option.values.empty()) return "";
    return fmt::format("complete -c mobe -n {} -f -a '{}'\n", condition,
                       Spaced(option.values));
  }
  std::string line = fmt::format("complete -c mobe -n {}", condition);
  for (const std::string& name : option.names) {
    line += name.starts_with("--") ? " -l " + name.substr(2)
                                   : " -s " + name.substr(1);
  }
  if (option.text()) {
    line += " -r -F";
  } else if (!option.type.empty()) {
    line += fmt::format(" -x -a '{}'", Spaced(option.values));
  }
  return fmt::format("{} -d {}\n", line,
                     ShellQuoted(Escaped(option.help, "\\")));
}

std::string FishCommand(const CommandUsage& command) {
  const std::string condition =
      fmt::format("'__fish_seen_subcommand_from {}'", command.name);
  return fmt::format(
             "complete -c mobe -n __fish_use_subcommand -f -a {} -d {}\n",
             command.name, ShellQuoted(Escaped(command.help, "\\"))) +
         PrintEach(command.options, [&](const OptionUsage& option) {
           return FishOption(condition, option);
         });
}

std::string FishScript(const ProgramUsage& usage) {
  return "# fish completion of mobe\n" +
         PrintEach(usage.program.options,
                   [](const OptionUsage& option) {
                     return FishOption("__fish_use_subcommand", option);
                   }) +
         PrintEach(usage.commands, FishCommand);
}

// ----

struct ShellRow {
  const char* name;
  std::string (*script)(const ProgramUsage& usage);
};
constexpr ShellRow kShells[] = {
    {"bash", BashScript}, {"zsh", ZshScript}, {"fish", FishScript}};

}  // namespace

void AddCompletions(CLI::App& app, CommonOptions* /*common*/) {
  CLI::App* command = app.add_subcommand(
      "completions", "print what completes mobe's arguments in a shell");
  auto shell = std::make_shared<std::string>();
  std::vector<std::string> names;
  for (const ShellRow& row : kShells) names.emplace_back(row.name);
  ExpectOneOf(
      command->add_option("shell", *shell, "bash, zsh or fish")->required(),
      names);
  command->callback([&app, shell] {
    for (const ShellRow& row : kShells) {
      if (*shell == row.name) PrintText(row.script(ReadUsage(app)));
    }
  });
}

}  // namespace mobe
