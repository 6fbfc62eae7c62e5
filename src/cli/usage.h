// What is wrong with a command line, and what to write instead.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace mobe {

// As CLI11 reads them: "help" and "help compress" are --help.
std::vector<std::string> ReadArguments(int argc, char** argv);

// Fails, as parsing does, when the first argument is no command of `app`.
void CheckCommandName(const CLI::App& app,
                      const std::vector<std::string>& arguments);

// One line for what parsing threw: what is not known is told first, since it
// has most often led to the rest.
std::string UsageText(const CLI::App& app, const CLI::ParseError& error);

}  // namespace mobe
