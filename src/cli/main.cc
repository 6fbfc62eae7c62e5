// mobe: compress, verify, reconstruct, run and measure MoE models with MoBE.
#include <fmt/core.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>
#include <string>

#include "base/error.h"
#include "base/parallel.h"
#include "base/stop.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/stop_signals.h"
#include "kernels/kernels.h"

namespace mobe {
namespace {

std::string VersionText() {
  std::string text =
      fmt::format("mobe {}\nkernels: {}", MOBE_VERSION, Kernels().name);
  for (const KernelSet& set : SupportedKernels()) {
    text += &set == &SupportedKernels().front() ? " (of " : ", ";
    text += set.name;
  }
  return text + ")";
}

int Run(int argc, char** argv) {
  TakeSignalsAside();
  // Then a file above `ulimit -f` is an error of its write, as a full disk is.
  std::signal(SIGXFSZ, SIG_IGN);
  CLI::App app(
      "MoBE, Mixture-of-Basis-Experts (arXiv 2508.05257): makes large MoE "
      "language models smaller and runs them.",
      "mobe");
  app.set_version_flag("--version", [] { return VersionText(); });
  app.failure_message(CLI::FailureMessage::help);
  CommonOptions common;
  app.parse_complete_callback([&common] { SetThreads(common.threads); });
  for (const AddCommand add : kCommands) add(app, &common);
  try {
    app.parse(argc, argv);
    // Not require_subcommand: it would hide a mistyped command's own message.
    if (app.get_subcommands().empty()) {
      fmt::print("{}", app.help());
      return 2;
    }
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    const auto chosen = app.get_subcommands();
    fmt::print(stderr, "mobe: {} (see mobe {}--help)\n", e.what(),
               chosen.empty() ? "" : chosen.front()->get_name() + " ");
    return 2;
  } catch (const Failed&) {
    return 1;
  } catch (const Stopped& e) {
    fmt::print(stderr, "mobe: {}\n", e.what());
    return 128 + StopSignal();  // as a shell says of who died of a signal
  } catch (const Error& e) {
    fmt::print(stderr, "mobe: {}: {}\n", ErrorKindName(e.kind()), e.what());
    return 1;
  } catch (const std::filesystem::filesystem_error& e) {
    fmt::print(stderr, "mobe: {}: {}\n", e.path1().string(),
               e.code().message());
    return 1;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "mobe: out of memory\n");
    return 1;
  } catch (const std::exception& e) {
    fmt::print(stderr, "mobe: internal error: {}\n", e.what());
    return 1;
  }
  // Also of what was printed before: the error stays with the stream.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    fmt::print(stderr, "mobe: cannot write to the standard output\n");
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace mobe

int main(int argc, char** argv) {
  try {
    return mobe::Run(argc, argv);
  } catch (...) {  // printing an error failed
    return 1;
  }
}
