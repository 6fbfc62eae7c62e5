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

void PrintText(std::string_view text) {
  // program.cc asks the stream at the end whether it took all.
  const std::string visible = Visible(text, Lines::kMany);
  std::fwrite(visible.data(), 1, visible.size(), stdout);
  std::fflush(stdout);
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
  Print("{}\n", object.dump(2, ' ', false, Json::error_handler_t::replace));
}

}  // namespace mobe
