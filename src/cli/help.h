// What --help prints: lines of at most the terminal's width.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace mobe {

class HelpFormatter : public CLI::Formatter {
 public:
  explicit HelpFormatter(int columns) : columns_(columns) {}

  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override;
  std::string make_subcommand(const CLI::App* command) const override;
  std::string make_option(const CLI::Option* option,
                          bool is_positional) const override;

 private:
  std::string Row(const std::string& name,
                  const std::string& description) const;

  const int columns_;
};

}  // namespace mobe
