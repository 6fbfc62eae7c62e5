// A table of cells in the forms that people paste elsewhere.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace mobe {

// Rows of as many cells each, titles first. The first column is words, and so
// at the left; of numbers the others.
using Cells = std::vector<std::vector<std::string>>;

struct TableForm {
  const char* name;  // "text", "markdown", "csv", "latex"
  std::string (*print)(const Cells& cells);
  bool for_programs;  // numbers are to have all digits, and no unit
};
std::span<const TableForm> TableForms();

// In columns of the same width, all words: the form "text" but for the sides
// of numbers.
std::string AlignedLeft(const Cells& cells);

}  // namespace mobe
