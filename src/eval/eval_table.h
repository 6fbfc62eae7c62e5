// The results of `mobe eval` as text, JSON, and in the page of `mobe report`.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "eval/eval_run.h"

namespace mobe {

Json EvalJson(const std::vector<EvalResult>& results);
// Of what EvalJson made. Fails with kCorruptFile when `json` is something else.
std::vector<EvalResult> ReadEvalJson(const Json& json,
                                     const std::string& source);

// The cells of a table, titles first; a model alone has three columns less.
std::vector<std::vector<std::string>> EvalTable(
    const std::vector<EvalResult>& results);
// The same in aligned columns, a line each.
std::string AlignedTable(const std::vector<EvalResult>& results);

}  // namespace mobe
