// Several models on several texts, in one table: of `mobe table`, and in the
// page of `mobe report`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/statistics.h"
#include "eval/table_form.h"

namespace mobe {

struct OnText {
  Estimate perplexity;
  // Of the first model's predictions; nothing for itself.
  std::optional<Estimate> kld, top1_agreement;
};

struct ComparedModel {
  std::string name;
  int64_t bytes = 0;                        // of all tensors
  std::vector<OnText> texts;                // as Comparison's
  std::optional<double> tokens_per_second;  // decoding; nothing: not timed
};

struct Comparison {
  std::vector<std::string> texts;  // names
  std::vector<ComparedModel> models;
};

// A model a row, titles first.
enum class CellsFor { kPeople, kPrograms };
Cells ComparisonCells(const Comparison& comparison, CellsFor whom);

// An object with the keys "texts" and "models".
Json ComparisonJson(const Comparison& comparison);
// Of what ComparisonJson made. Fails with kCorruptFile when `json` is something
// else.
Comparison ReadComparisonJson(const Json& json, const std::string& source);

}  // namespace mobe
