// mobe manual: the manual page, mobe(1)
#include <fmt/core.h>
#include <fmt/ranges.h>

#include "cli/command.h"
#include "cli/commands.h"
#include "cli/program_usage.h"

namespace mobe {
namespace {

constexpr const char* kBegin = R"(.SH SYNOPSIS
.B mobe
.I command
.RI [ options ]
.I arguments
.SH DESCRIPTION
What a command prints, and its JSON, is described in docs/commands.md of the
documents that are installed with the program.
)";

constexpr const char* kEnd = R"(.SH EXIT STATUS
.TP
0
done
.TP
1
failed; one line on stderr says what, where, and what was expected
.TP
2
wrong usage
.TP
128 + N
stopped by signal N
)";

// So that troff prints the text as it is.
std::string Roff(std::string_view text) {
  std::string escaped;
  // At the beginning of a line they would be a request.
  if (text.starts_with('.') || text.starts_with('\'')) escaped = "\\&";
  for (const char c : text) {
    if (c == '\\') {
      escaped += "\\e";
    } else if (c == '-') {
      escaped += "\\-";  // of an option, not of a word that is broken
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// What the help does not say: "one of silu, tanh, identity; needs --format".
std::string NotesOn(const OptionUsage& option) {
  std::vector<std::string> notes;
  const auto add = [&](const char* what,
                       const std::vector<std::string>& names) {
    if (names.empty()) return;
    notes.push_back(fmt::format("{} {}", what, fmt::join(names, ", ")));
  };
  if (option.required && !option.positional) notes.emplace_back("required");
  add("one of", option.values);
  if (!option.default_value.empty()) add("default", {option.default_value});
  add("not with", option.excludes);
  add("needs", option.needs);
  return fmt::format("{}", fmt::join(notes, "; "));
}

std::string OptionParagraph(const OptionUsage& option) {
  std::string text = fmt::format(
      ".TP\n.B {}", Roff(fmt::format("{}", fmt::join(option.names, ", "))));
  if (!option.positional && !option.type.empty()) {
    text += fmt::format(" \\fI{}\\fR", Roff(option.type));
  }
  text +=
      fmt::format("{}\n{}\n", option.repeats ? " ..." : "", Roff(option.help));
  const std::string notes = NotesOn(option);
  return notes.empty() ? text : text + fmt::format("[{}]\n", Roff(notes));
}

std::string CommandSection(const CommandUsage& command) {
  std::string text = fmt::format(".SS mobe {}", Roff(command.name));
  for (const OptionUsage& option : command.options) {
    if (option.positional) text += " " + Roff(option.names.front());
  }
  text += fmt::format("\n{}\n", Roff(command.help));
  return text + PrintEach(command.options, OptionParagraph);
}

std::string ManualPage(const ProgramUsage& usage) {
  return fmt::format(".TH MOBE 1 \"\" \"mobe {}\" \"User Commands\"\n",
                     MOBE_VERSION) +
         ".SH NAME\nmobe \\- " + Roff(usage.program.help) + "\n" + kBegin +
         ".SH OPTIONS\n" + PrintEach(usage.program.options, OptionParagraph) +
         ".SH COMMANDS\n" + PrintEach(usage.commands, CommandSection) + kEnd;
}

}  // namespace

void AddManual(CLI::App& app, CommonOptions* /*common*/) {
  app.add_subcommand("manual", "print the manual page, in troff")
      ->callback([&app] { PrintText(ManualPage(ReadUsage(app))); });
}

}  // namespace mobe
