// One subcommand is one file with one function that adds it to the program.
// Its callback runs after parsing: it calls the library, prints to stdout and
// throws Error when it fails. program.cc turns that into exit codes: 0 done, 1
// failed, 2 usage.
#pragma once

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "eval/table_form.h"

namespace mobe {

// Options that every subcommand has. Filled before its callback runs.
struct CommonOptions {
  bool json = false;   // one JSON object on stdout instead of text
  bool quiet = false;  // no progress on stderr
  // What a model has run, on stderr: of the commands of run_options.h.
  bool verbose = false;
  int threads = 0;  // 0: one for each core that may be used
};

// Adds --json (when the command has it), --quiet and --threads. Called last: no
// option takes nothing for a value (expect.h).
enum class JsonOutput { kNo, kYes };
void AddCommonOptions(CLI::App* command, CommonOptions* common,
                      JsonOutput json);

// Adds --shard-gb.
void AddShardSize(CLI::App* command, double* gigabytes);

// Prints on stdout, at once: what stderr gets later comes later where both go.
// What a terminal would obey is written out (base/visible.h); what is to be one
// line goes through OneLine.
void PrintText(std::string_view text);
// The same of whole lines for people: on a terminal that is narrower they are
// broken between words.
void PrintLines(std::string_view text);
template <class... Args>
void Print(fmt::format_string<Args...> format, Args&&... args) {
  PrintLines(fmt::format(format, std::forward<Args>(args)...));
}
// Rows of cells, titles first, in columns; on a terminal that is narrower a
// list for each row, its first cell above the others with their titles.
void PrintTable(const Cells& cells);
// That this output was there already, whole.
void PrintAlready(const std::string& out);
// What a model says: the same on a terminal, as it is elsewhere.
void PrintAnswer(std::string_view piece);

// Prints one line on stderr, as OneLine makes it; on a terminal that is
// narrower, several.
void PrintNote(const std::string& line);

// Prints "mobe: warning: ..." on stderr, also with --quiet, as one line. How
// the library hands one up: base/progress.h.
void PrintWarning(const std::string& line);

// Prints one JSON object and a newline on stdout. To what it holds it adds
// "warnings", those printed since the last one.
void PrintJson(Json object);

// commands.h lists these in a table.
using AddCommand = void (*)(CLI::App& app, CommonOptions* common);

// Thrown by a callback whose answer is "no" after everything was printed, as
// when verify has found faults: exit code 1 without another message.
struct Failed {};

}  // namespace mobe
