#include "cli/usage.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/visible.h"
#include "cli/closest.h"
#include "cli/program_usage.h"

namespace mobe {
namespace {

// What people write behind a command's arguments, and where it belongs.
struct Beyond {
  const char* command;
  const char* advice;
};
constexpr Beyond kBeyond[] = {
    {"bench", "numbers of tokens go with --prompt and --generate"},
    {"calibrate", "a number of tokens goes with --max-tokens"},
    {"chat", "messages are typed or piped, or in a file for --messages"},
    {"compress", "how much to keep goes with --ratio"},
    {"eval", "tasks go with --tasks, their data with --data"},
    {"generate", "a prompt goes with --prompt"},
    {"logits", "files go with --ids and --out"},
    {"quantize", "the format goes with --format"},
    {"report", "the page's name goes with -o"},
    {"serve", "the address goes with --host and --port"},
    {"verify", "the original goes with --against"},
};

std::string NameOf(const CLI::App& command) {
  return command.get_parent() == nullptr ? "mobe" : command.get_name();
}

std::vector<std::string> OptionNames(const CLI::App& command) {
  std::vector<std::string> names;
  ForEachOption(command, [&](const CLI::Option& option) {
    for (const std::string& name : option.get_lnames()) {
      names.push_back("--" + name);
    }
    for (const std::string& name : option.get_snames()) {
      names.push_back("-" + name);
    }
  });
  return names;
}

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) {
    names.push_back(command->get_name());
  }
  return names;
}

bool LooksLikeOption(const std::string& word) {
  return word.size() > 1 && word.starts_with('-');
}

std::string UnknownOption(const CLI::App& app, const CLI::App& command,
                          const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  const std::vector<std::string> before = app.remaining();
  const bool misplaced = &command != &app &&
                         std::ranges::count(before, word) != 0 &&
                         std::ranges::count(OptionNames(command), name) != 0;
  if (misplaced) {
    return fmt::format("{}: comes after the command: mobe {} {}", name,
                       command.get_name(), name);
  }
  std::string typed = name;
  if (!typed.starts_with("--")) typed.insert(0, "-");  // -ratio
  return fmt::format("{}: no option of {}{}", name, NameOf(command),
                     DidYouMean(typed, OptionNames(command)));
}

std::string OneTooMany(const CLI::App& command, const std::string& word) {
  const auto* const known =
      std::ranges::find(kBeyond, command.get_name(), &Beyond::command);
  return fmt::format(
      "{}: \"{}\" is one argument too many{}", NameOf(command),
      CutMiddle(word, 60),
      known == std::end(kBeyond) ? "" : fmt::format("; {}", known->advice));
}

// The first argument or option that the command can't do without, or the group
// of which it wants one.
std::string WhatIsMissing(const CLI::App& command) {
  std::string text;
  ForEachOption(command, [&](const CLI::Option& option) {
    if (!text.empty() || !option.get_required() || option.count() != 0) return;
    text = fmt::format("{} is missing: {}", option.get_name(),
                       option.get_description());
  });
  for (const CLI::App* group : command.get_subcommands({})) {
    if (!text.empty() || group->get_require_option_min() != 1) continue;
    std::vector<std::string> names;
    for (const CLI::Option* option : group->get_options()) {
      if (option != group->get_help_ptr()) names.push_back(option->get_name());
    }
    text = fmt::format("expected one of {}", fmt::join(names, ", "));
  }
  return text;
}

std::string WhatIsWrong(const CLI::App& app, const CLI::App& command,
                        const CLI::ParseError& error) {
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  const auto option = std::ranges::find_if(unknown, LooksLikeOption);
  if (option != unknown.end()) return UnknownOption(app, command, *option);
  if (!unknown.empty()) return OneTooMany(command, unknown.front());
  const std::string text = error.what();
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    const std::string missing = WhatIsMissing(command);
    if (!missing.empty()) return missing;
  }
  // Of no value, or of several.
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    return text.substr(0, text.find(':')) + ": expected one value";
  }
  return text;
}

}  // namespace

std::vector<std::string> ReadArguments(int argc, char** argv) {
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  if (!arguments.empty() && arguments.front() == "help") {
    arguments.erase(arguments.begin());
    arguments.resize(std::min<size_t>(arguments.size(), 1));
    arguments.emplace_back("--help");
  }
  return arguments;
}

void CheckCommandName(const CLI::App& app,
                      const std::vector<std::string>& arguments) {
  if (arguments.empty() || LooksLikeOption(arguments.front())) return;
  const std::vector<std::string> names = CommandNames(app);
  const std::string& name = arguments.front();
  if (std::ranges::count(names, name) != 0) return;
  throw CLI::ParseError(
      fmt::format("{}: no command{}", name, DidYouMean(name, names)),
      CLI::ExitCodes::ExtrasError);
}

std::string UsageText(const CLI::App& app, const CLI::ParseError& error) {
  const auto chosen = app.get_subcommands();
  const CLI::App& command = chosen.empty() ? app : *chosen.front();
  return fmt::format("{} (see mobe help{})",
                     OneLine(WhatIsWrong(app, command, error)),
                     chosen.empty() ? "" : " " + command.get_name());
}

}  // namespace mobe
