// What an error of gate or up does to what its expert puts out,
//
//   w D (silu(g) * u),   g = W_gate x,   u = W_up x,
//
// to first order, on the tokens that chose the expert: fit/output_solve.h makes
// use of it.
#pragma once

#include <cstdint>

#include "fit/fit.h"
#include "mobe/open_model.h"

namespace mobe {

// An expert's matrices: gate and up [rows, cols], down [cols, rows].
struct ExpertMatrices {
  const float* gate;
  const float* up;
  const float* down;
};

// Of gate or of up; tokens evenly from those of the expert. Serial inside
// ParallelFor.
void LinearizeExpert(const ExpertMatrices& matrices, const MatrixKind& kind,
                     const RoutedInputs& inputs, int64_t expert, int64_t rows,
                     int64_t cols, ExpertOutputs* outputs);

// The same for experts of a plain layer's group, whose matrices are read when
// it is their turn. Null for down.
OutputsFn OutputsOf(const OpenedModel& model, int64_t layer,
                    const MatrixKind& kind, const ExpertGroup& group);

}  // namespace mobe
