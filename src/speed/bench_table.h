// The results of a bench as a table: one list of columns for all its forms.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "speed/bench.h"

namespace mobe {

// For people; a number's digits are those worth reading. Where it is wider than
// `columns`, several tables below one another, each with the tests' names.
std::string BenchMarkdown(const std::vector<BenchResult>& results,
                          size_t columns);
// Keys, and a line for each result; nothing where there is no value.
std::string BenchCsv(const std::vector<BenchResult>& results);
// An object for each result; null where there is no value.
Json BenchJson(const std::vector<BenchResult>& results);

}  // namespace mobe
