#include "cli/command.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/visible.h"
#include "cli/expect.h"
#include "cli/terminal.h"

namespace mobe {

void AddCommonOptions(CLI::App* command, CommonOptions* common,
                      JsonOutput json) {
  if (json == JsonOutput::kYes) {
    command->add_flag("--json", common->json,
                      "print one JSON object instead of text");
  }
  command->add_flag("--quiet", common->quiet, "no progress on stderr");
  ExpectWhole(
      command->add_option("--threads", common->threads,
                          "threads to use (default: one for each core that "
                          "this process may use)"),
      1, 512);
  ExpectValues(command);
}

void AddShardSize(CLI::App* command, double* gigabytes) {
  ExpectNumber(command
                   ->add_option("--shard-gb", *gigabytes,
                                "largest size of an output file in GB")
                   ->capture_default_str(),
               "a number from 0.000001 to 1,000,000",
               [](double size) { return size >= 0.000001 && size <= 1e6; });
}

namespace {

// A row in lines: its first cell, then title and cell of the others.
std::string ListOfRows(const Cells& cells) {
  std::string text;
  for (auto row = cells.begin() + 1; row != cells.end(); ++row) {
    text += row->front() + "\n";
    Cells lines;
    for (size_t i = 1; i < row->size(); ++i) {
      if ((*row)[i].empty()) continue;
      lines.push_back({"  " + cells.front()[i], (*row)[i]});
    }
    if (!lines.empty()) text += AlignedLeft(lines);
  }
  return text;
}

}  // namespace

void PrintText(std::string_view text) {
  // program.cc asks the stream at the end whether it took all.
  const std::string visible = Visible(text, Lines::kMany);
  std::fwrite(visible.data(), 1, visible.size(), stdout);
  std::fflush(stdout);
}

void PrintLines(std::string_view text) {
  if (!CanDraw(STDOUT_FILENO)) return PrintText(text);
  PrintText(WrapLines(text, ColumnsOfTerminal(STDOUT_FILENO)));
}

void PrintTable(const Cells& cells) {
  const std::string table = TableForms().front().print(cells);
  if (!CanDraw(STDOUT_FILENO)) return PrintText(table);
  const int columns = ColumnsOfTerminal(STDOUT_FILENO);
  bool fits = true;
  for (size_t first = 0; first < table.size();) {
    const size_t end = table.find('\n', first);
    fits &= ColumnsOf(table.substr(first, end - first)) <= columns;
    first = end + 1;
  }
  PrintText(fits ? table : ListOfRows(cells));
}

void PrintAlready(const std::string& out) {
  Print("{}: finished before, by the same command\n", OneLine(out));
}

void PrintAnswer(std::string_view piece) {
  static const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  if (terminal) return PrintText(piece);
  std::fwrite(piece.data(), 1, piece.size(), stdout);
  std::fflush(stdout);
}

void PrintNote(const std::string& line) {
  std::string note = OneLine(line);
  if (CanDraw(STDERR_FILENO)) {
    note = WrapToColumns(std::move(note), ColumnsOfTerminal(STDERR_FILENO));
  }
  fmt::print(stderr, "{}\n", note);
}

namespace {

// A process runs one command.
std::vector<std::string>& Warnings() {
  static std::vector<std::string> warnings;
  return warnings;
}

}  // namespace

void PrintWarning(const std::string& line) {
  Warnings().push_back(OneLine(line));
  PrintNote("mobe: warning: " + Warnings().back());
}

void PrintJson(Json object) {
  object["warnings"] = std::exchange(Warnings(), {});
  // Bytes that are no UTF-8 (a model may generate them) become U+FFFD. What
  // PrintText writes out is JSON, too.
  PrintText(fmt::format(
      "{}\n", object.dump(2, ' ', false, Json::error_handler_t::replace)));
}

}  // namespace mobe
