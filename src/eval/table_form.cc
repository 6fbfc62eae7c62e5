#include "eval/table_form.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/visible.h"

namespace mobe {
namespace {

std::vector<int> WidthsOf(const Cells& cells) {
  std::vector<int> widths(cells.front().size());
  for (const auto& row : cells) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], ColumnsOf(row[i]));
    }
  }
  return widths;
}

enum class Side { kLeft, kRight };

std::string Padded(const std::string& cell, int width, Side side) {
  const std::string blanks(static_cast<size_t>(width - ColumnsOf(cell)), ' ');
  return side == Side::kLeft ? cell + blanks : blanks + cell;
}

// Columns with `between` them; a line has no blanks at its end.
std::string Aligned(const Cells& cells, Side numbers,
                    std::string_view between) {
  const std::vector<int> widths = WidthsOf(cells);
  std::string text;
  for (const auto& row : cells) {
    std::vector<std::string> padded;
    for (size_t i = 0; i < row.size(); ++i) {
      padded.push_back(
          Padded(row[i], widths[i], i == 0 ? Side::kLeft : numbers));
    }
    std::string line = fmt::format("{}", fmt::join(padded, between));
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

// What a character of the form's own is written as.
struct Written {
  char character;
  std::string_view as;
};
Cells Escaped(Cells cells, std::span<const Written> table) {
  for (auto& row : cells) {
    for (std::string& cell : row) {
      std::string text;
      for (const char c : cell) {
        const auto found = std::ranges::find(table, c, &Written::character);
        text += found == table.end() ? std::string(1, c) : found->as;
      }
      cell = text;
    }
  }
  return cells;
}

std::string PlainText(const Cells& cells) {
  return Aligned(cells, Side::kRight, "  ");
}

std::string Markdown(const Cells& cells) {
  constexpr Written kWritten[] = {{'|', "\\|"}, {'\\', "\\\\"}};
  Cells rows = Escaped(cells, kWritten);
  const std::vector<int> widths = WidthsOf(rows);
  std::vector<std::string> rule;
  for (size_t i = 0; i < widths.size(); ++i) {
    const auto dashes = static_cast<size_t>(std::max(widths[i] - 1, 2));
    rule.push_back(std::string(dashes, '-') + (i == 0 ? "-" : ":"));
  }
  rows.insert(rows.begin() + 1, std::move(rule));
  for (auto& row : rows) {
    row.front().insert(0, "| ");
    row.back() += " |";
  }
  return Aligned(rows, Side::kRight, " | ");
}

std::string Csv(const Cells& cells) {
  std::string text;
  for (std::vector<std::string> row : cells) {
    for (std::string& cell : row) {
      if (cell.find_first_of("\",\n") == std::string::npos) continue;
      for (size_t at = 0; (at = cell.find('"', at)) != std::string::npos;) {
        cell.insert(at, 1, '"');
        at += 2;
      }
      cell = "\"" + cell + "\"";
    }
    text += fmt::format("{}\n", fmt::join(row, ","));
  }
  return text;
}

// For the package booktabs.
std::string Latex(const Cells& cells) {
  constexpr Written kWritten[] = {{'\\', "\\textbackslash{}"},
                                  {'~', "\\textasciitilde{}"},
                                  {'^', "\\textasciicircum{}"},
                                  {'&', "\\&"},
                                  {'%', "\\%"},
                                  {'$', "\\$"},
                                  {'#', "\\#"},
                                  {'_', "\\_"},
                                  {'{', "\\{"},
                                  {'}', "\\}"}};
  Cells rows = Escaped(cells, kWritten);
  std::string text = fmt::format("\\begin{{tabular}}{{l{}}}\n\\toprule\n",
                                 std::string(cells.front().size() - 1, 'r'));
  for (size_t i = 0; i < rows.size(); ++i) {
    text += fmt::format("{} \\\\\n", fmt::join(rows[i], " & "));
    if (i == 0) text += "\\midrule\n";
  }
  return text + "\\bottomrule\n\\end{tabular}\n";
}

}  // namespace

std::span<const TableForm> TableForms() {
  static constexpr TableForm kForms[] = {{"text", PlainText, false},
                                         {"markdown", Markdown, false},
                                         {"csv", Csv, true},
                                         {"latex", Latex, false}};
  return kForms;
}

std::string AlignedLeft(const Cells& cells) {
  return Aligned(cells, Side::kLeft, "  ");
}

}  // namespace mobe
