#include "cli/help.h"

#include <utility>

#include "cli/terminal.h"

namespace mobe {
namespace {

// Where descriptions begin. In a narrow terminal they stand below the names.
constexpr int kNarrow = 60;
constexpr int kLeft = 30;
constexpr int kNarrowLeft = 6;
// CLI11 indents the options of a group by so much more.
constexpr int kGroupIndent = 2;

}  // namespace

std::string HelpFormatter::Row(const std::string& name,
                               const std::string& description) const {
  const auto left =
      static_cast<size_t>(columns_ < kNarrow ? kNarrowLeft : kLeft);
  std::string row = "  " + name;
  if (row.size() < left) {
    row.resize(left, ' ');
  } else if (!description.empty()) {
    row += "\n" + std::string(left, ' ');
  }
  const std::string lines = WrapToColumns(
      description, columns_ - kGroupIndent - static_cast<int>(left));
  for (const char c : lines) {
    row += c;
    if (c == '\n') row += std::string(left, ' ');
  }
  return row + "\n";
}

std::string HelpFormatter::make_subcommand(const CLI::App* command) const {
  return Row(command->get_display_name(true), command->get_description());
}

std::string HelpFormatter::make_option(const CLI::Option* option,
                                       bool is_positional) const {
  std::string name =
      make_option_name(option, is_positional) + make_option_opts(option);
  // Lists of words need places where they can be broken.
  if (static_cast<int>(name.size()) + kGroupIndent + 2 > columns_) {
    for (size_t at = name.find(','); at != std::string::npos;
         at = name.find(',', at + 1)) {
      name.insert(at + 1, " ");
    }
  }
  return Row(name, make_option_desc(option));
}

std::string HelpFormatter::make_help(const CLI::App* app, std::string name,
                                     CLI::AppFormatMode mode) const {
  return WrapLines(Formatter::make_help(app, std::move(name), mode), columns_);
}

}  // namespace mobe
