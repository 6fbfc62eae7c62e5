#include "speed/bench_table.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace mobe {
namespace {

// null: there is no such number for the case.
Json IfReading(const BenchResult& result, double value) {
  return result.token_bytes > 0 ? Json(value) : Json();
}

struct BenchColumn {
  const char* key;    // of JSON and CSV
  const char* title;  // of people
  Json (*value)(const BenchResult& result);
  double unit = 1;  // by which people see it divided
  int digits = 0;   // behind the point, for people
};
constexpr BenchColumn kBenchColumns[] = {
    {"test", "test",
     [](const BenchResult& r) -> Json { return r.test.text.Name(); }},
    {"depth", "depth",
     [](const BenchResult& r) -> Json { return r.test.depth; }},
    {"batch", "batch",
     [](const BenchResult& r) -> Json { return r.test.batch; }},
    {"threads", "threads",
     [](const BenchResult& r) -> Json { return r.threads; }},
    {"dtype", "dtype", [](const BenchResult& r) -> Json { return r.dtype; }},
    {"experts", "experts",
     [](const BenchResult& r) -> Json { return r.experts; }},
    {"experts_found", "found",
     [](const BenchResult& r) -> Json { return r.uses.share_found(); }, 1, 2},
    {"tokens_per_second", "tok/s",
     [](const BenchResult& r) -> Json { return r.rate(); }, 1, 2},
    {"deviation", "+-",
     [](const BenchResult& r) -> Json { return r.deviation(); }, 1, 2},
    {"bytes_per_token", "MB/token",
     [](const BenchResult& r) { return IfReading(r, r.token_bytes); }, 1e6, 1},
    {"bytes_per_second", "GB/s",
     [](const BenchResult& r) { return IfReading(r, r.bytes_per_second()); },
     1e9, 2},
    {"share_of_reading", "of reading",
     [](const BenchResult& r) { return IfReading(r, r.share_of_reading()); }, 1,
     2},
    {"operations_per_second", "GFLOP/s",
     [](const BenchResult& r) -> Json { return r.operations_per_second(); },
     1e9, 1},
    {"share_of_products", "of products",
     [](const BenchResult& r) -> Json { return r.share_of_products(); }, 1, 2},
};

std::string ForPeople(const BenchColumn& column, const Json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return value.dump();
  return fmt::format("{:.{}f}", value.get<double>() / column.unit,
                     column.digits);
}

std::string ForCsv(const Json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// A column of a Markdown table, its title and the line below it included; the
// first one begins the lines.
std::vector<std::string> CellsOf(const BenchColumn& column,
                                 const std::vector<BenchResult>& results) {
  std::vector<std::string> cells = {column.title};
  for (const BenchResult& result : results) {
    cells.push_back(ForPeople(column, column.value(result)));
  }
  size_t width = 2;
  for (const std::string& cell : cells) width = std::max(width, cell.size());
  const bool text = !results.empty() && column.value(results[0]).is_string();
  cells.insert(cells.begin() + 1, text ? std::string(width, '-')
                                       : std::string(width - 1, '-') + ":");
  const char* begin = &column == std::begin(kBenchColumns) ? "|" : "";
  for (std::string& cell : cells) {
    cell = text ? fmt::format("{} {:<{}} |", begin, cell, width)
                : fmt::format("{} {:>{}} |", begin, cell, width);
  }
  return cells;
}

}  // namespace

std::string BenchMarkdown(const std::vector<BenchResult>& results,
                          size_t columns) {
  const size_t rows = results.size() + 2;
  std::vector<std::string> lines;
  std::vector<std::string> names;  // the first column of each table
  for (const BenchColumn& column : kBenchColumns) {
    const std::vector<std::string> cells = CellsOf(column, results);
    if (names.empty()) {
      names = cells;
      lines = names;
      continue;
    }
    if (lines.back().size() + cells.back().size() > columns) {
      lines.emplace_back();
      lines.insert(lines.end(), names.begin(), names.end());
    }
    for (size_t i = 0; i < rows; ++i) {
      lines[lines.size() - rows + i] += cells[i];
    }
  }
  return fmt::format("{}\n", fmt::join(lines, "\n"));
}

std::string BenchCsv(const std::vector<BenchResult>& results) {
  std::vector<std::string> keys;
  for (const BenchColumn& column : kBenchColumns) keys.emplace_back(column.key);
  std::string text = fmt::format("{}\n", fmt::join(keys, ","));
  for (const BenchResult& result : results) {
    std::vector<std::string> cells;
    for (const BenchColumn& column : kBenchColumns) {
      cells.push_back(ForCsv(column.value(result)));
    }
    text += fmt::format("{}\n", fmt::join(cells, ","));
  }
  return text;
}

Json BenchJson(const std::vector<BenchResult>& results) {
  Json rows = Json::array();
  for (const BenchResult& result : results) {
    Json& row = rows.emplace_back(Json::object());
    for (const BenchColumn& column : kBenchColumns) {
      row[column.key] = column.value(result);
    }
    row["seconds"] = result.seconds;
  }
  return rows;
}

}  // namespace mobe
