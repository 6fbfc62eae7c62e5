#include "eval/eval_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/visible.h"
#include "eval/estimate_json.h"

namespace mobe {
namespace {

std::string ValueCell(const Estimate& estimate, const char* sign = "") {
  // An error of one item is not known.
  const std::string error = std::isfinite(estimate.error)
                                ? fmt::format(" ± {:.4f}", estimate.error)
                                : "";
  return (estimate.value > 0 ? sign : "") +
         fmt::format("{:.4f}", estimate.value) + error;
}

}  // namespace

Json EvalJson(const std::vector<EvalResult>& results) {
  Json list = Json::array();
  for (const EvalResult& result : results) {
    Json json = {{"task", result.task},   {"version", result.version},
                 {"form", result.form},   {"metric", result.metric},
                 {"shots", result.shots}, {"items", result.items}};
    AddEstimate("value", result.value, &json);
    if (result.base) AddEstimate("base", *result.base, &json);
    if (result.difference) {
      AddEstimate("difference", *result.difference, &json);
    }
    list.push_back(std::move(json));
  }
  return list;
}

std::vector<EvalResult> ReadEvalJson(const Json& json,
                                     const std::string& source) {
  std::vector<EvalResult> results;
  try {
    for (const Json& entry : json.at("results")) {
      EvalResult& result = results.emplace_back(
          EvalResult{.task = entry.at("task").get<std::string>(),
                     .version = entry.at("version").get<std::string>(),
                     .form = entry.at("form").get<std::string>(),
                     .metric = entry.at("metric").get<std::string>(),
                     .shots = entry.at("shots").get<int64_t>(),
                     .items = entry.at("items").get<int64_t>(),
                     .value = ReadEstimate(entry, "value")});
      if (!entry.contains("base")) continue;
      result.base = ReadEstimate(entry, "base");
      result.difference = ReadEstimate(entry, "difference");
    }
  } catch (const Json::exception& e) {
    Fail(ErrorKind::kCorruptFile,
         "{}: not what mobe eval --json prints ({}); give a file with that",
         source, ParserMessage(e));
  }
  return results;
}

Cells EvalTable(const std::vector<EvalResult>& results) {
  const bool compared = std::ranges::any_of(
      results,
      [](const EvalResult& result) { return result.base.has_value(); });
  Cells table = {{"task", "version", "metric", "shots", "items", "value"}};
  if (compared) {
    table.front().insert(table.front().end(), {"original", "difference"});
  }
  for (const EvalResult& result : results) {
    std::vector<std::string>& row = table.emplace_back(std::vector<std::string>{
        result.task, result.version, result.metric,
        std::to_string(result.shots), FormatCount(result.items),
        ValueCell(result.value)});
    if (!compared) continue;
    row.push_back(result.base ? ValueCell(*result.base) : "");
    row.push_back(result.difference ? ValueCell(*result.difference, "+") : "");
  }
  return table;
}

}  // namespace mobe
