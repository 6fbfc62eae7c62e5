// The expert that came out worst: a mean over all of them hides one that is
// lost, as beside an outlier among the weights. Said wherever the mean is.
#pragma once

#include <fmt/core.h>

#include <string>

#include "base/json.h"
#include "compress/compress.h"

namespace mobe {

// Of a list of MatrixReport, or of what derives from it: the matrix with the
// largest error of a single expert; null when there is none.
template <class Matrices>
const MatrixReport* FindWorst(const Matrices& matrices) {
  const MatrixReport* worst = nullptr;
  for (const MatrixReport& matrix : matrices) {
    if (worst == nullptr ||
        matrix.error.worst_expert > worst->error.worst_expert) {
      worst = &matrix;
    }
  }
  return worst;
}

// "layer 3 gate, expert 17"
inline std::string WorstPlace(const MatrixReport& worst) {
  return fmt::format("layer {} {}, expert {}", worst.layer, worst.kind,
                     worst.error.worst_expert_index);
}

// "worst expert: relative error 0.8123, layer 3 gate, expert 17"
inline std::string WorstText(const MatrixReport& worst) {
  return fmt::format("worst expert: relative error {:.4f}, {}",
                     worst.error.worst_expert, WorstPlace(worst));
}

// {"relative", "layer", "matrix", "expert"}; null without one.
inline Json WorstJson(const MatrixReport* worst) {
  if (worst == nullptr) return nullptr;
  return {{"relative", worst->error.worst_expert},
          {"layer", worst->layer},
          {"matrix", worst->kind},
          {"expert", worst->error.worst_expert_index}};
}

// What --json says of each matrix.
template <class Matrices>
Json MatricesJson(const Matrices& matrices) {
  Json rows = Json::array();
  for (const MatrixReport& matrix : matrices) {
    const FitError& error = matrix.error;
    rows.push_back({{"layer", matrix.layer},
                    {"matrix", matrix.kind},
                    {"mse_scaled", error.scaled_mse},
                    {"relative", error.relative},
                    {"worst_expert", error.worst_expert},
                    {"worst_expert_index", error.worst_expert_index}});
  }
  return rows;
}

}  // namespace mobe
