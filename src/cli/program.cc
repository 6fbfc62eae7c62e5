#include "cli/program.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/parallel.h"
#include "base/stop.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/process.h"
#include "cli/stop_signals.h"
#include "cli/terminal.h"
#include "cli/usage.h"
#include "fit/devices.h"
#include "kernels/dot.h"
#include "kernels/kernels.h"
#include "kernels/token_lanes.h"

namespace mobe {
namespace {

template <class Set>
std::string NamesOf(const std::vector<Set>& sets) {
  std::vector<const char*> names;
  names.reserve(sets.size());
  for (const Set& set : sets) names.push_back(set.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string VersionText() {
  return fmt::format(
      "mobe {}\nkernels: {} (of {})\ninteger kernels: {} (of {})\n"
      "bfloat16 kernels: {} (of {})\n"
      "devices of the fit: {}",
      MOBE_VERSION, Kernels().name, NamesOf(SupportedKernels()), Dots().name,
      NamesOf(SupportedDots()), Lanes().name, NamesOf(SupportedLanes()),
      ListDevices());
}

int RunCommand(int argc, char** argv) {
  TakeSignalsAside();
  FailRatherThanBeKilled();
  CLI::App app(
      "MoBE, Mixture-of-Basis-Experts (arXiv 2508.05257): makes large MoE "
      "language models smaller and runs them.",
      "mobe");
  // Before commands are added, which take it over.
  app.formatter(
      std::make_shared<HelpFormatter>(ColumnsOfTerminal(STDOUT_FILENO)));
  app.set_version_flag("-V,--version", [] { return VersionText(); });
  app.footer("mobe help COMMAND lists the options of one.");
  app.failure_message(CLI::FailureMessage::help);
  CommonOptions common;
  app.parse_complete_callback([&common] { SetThreads(common.threads); });
  for (const AddCommand add : kCommands) add(app, &common);
  try {
    std::vector<std::string> arguments = ReadArguments(argc, argv);
    CheckCommandName(app, arguments);
    std::ranges::reverse(arguments);  // as CLI11 wants them
    app.parse(std::move(arguments));
    // Not require_subcommand: it would hide a mistyped command's own message.
    if (app.get_subcommands().empty()) {
      fmt::print("{}", app.help());
      return 2;
    }
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    PrintError({UsageText(app, e)});
    return 2;
  }
  return 0;
}

// The exit code; what failed is printed.
int RunAndTell(int argc, char** argv) {
  try {
    const int code = RunCommand(argc, argv);
    // Also of what was printed before: the error stays with the stream.
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
    PrintError({"cannot write to the standard output"});
  } catch (const Failed&) {
  } catch (const Stopped& e) {
    PrintError({e.what()});
    return 128 + StopSignal();  // as a shell says of who died of a signal
  } catch (const Error& e) {
    PrintError({ErrorKindName(e.kind()), ": ", e.what()});
  } catch (const std::bad_alloc&) {
    PrintError({"out of memory"});
  } catch (const std::length_error&) {  // of a container
    PrintError({"out of memory: more than can be addressed"});
  } catch (const Json::exception& e) {
    PrintError({"corrupt file: unexpected JSON: ", OneLine(e.what())});
  } catch (const std::system_error& e) {  // filesystem_error is one, too
    PrintError({OneLine(e.what())});
  } catch (const std::exception& e) {
    PrintError({"internal error: ", OneLine(e.what())});
  }
  return 1;
}

}  // namespace

int RunProgram(int argc, char** argv) {
  OpenStandardDescriptors();
  NameFaults();
  LoadUnwinder();
  // Then a file above `ulimit -f` is an error of its write, as a full disk is.
  std::signal(SIGXFSZ, SIG_IGN);
  return RunAndTell(argc, argv);
}

}  // namespace mobe
