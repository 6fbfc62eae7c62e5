// The results of `mobe eval` as text, JSON, and in the page of `mobe report`.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "eval/eval_run.h"
#include "eval/table_form.h"

namespace mobe {

Json EvalJson(const std::vector<EvalResult>& results);
// Of what EvalJson made. Fails with kCorruptFile when `json` is something else.
std::vector<EvalResult> ReadEvalJson(const Json& json,
                                     const std::string& source);

// The cells of a table, titles first; a model alone has three columns less.
Cells EvalTable(const std::vector<EvalResult>& results);

}  // namespace mobe
