// How far a model's matrices are from those that they stand for.
#pragma once

#include <string>
#include <vector>

#include "fit/fit.h"
#include "mobe/loss.h"
#include "mobe/open_model.h"

namespace mobe {

struct MatricesError : FitError {
  double worst_likeness = 0;  // of the worst expert (Loss::likeness)
};

// Error of all experts' matrices of one layer and kind against the original's,
// which has the same sizes and is plain. Expert by expert: in memory are the
// bases of one group and, for each thread, three matrices in float32. Fails
// with kCorruptFile when a weight of the original is not finite. Adds to
// `unwritten` the names of the original's that look so (mobe/zeros.h).
MatricesError MeasureMatrices(const OpenedModel& original,
                              const OpenedModel& model, int64_t layer,
                              const MatrixKind& kind,
                              std::vector<std::string>* unwritten = nullptr);

// Of a tensor of the original against one of the same shape, both in any
// format.
Loss MeasureLoss(const TensorView& original, const TensorView& copy);

}  // namespace mobe
