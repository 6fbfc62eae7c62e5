// Stored weights as float32.
#pragma once

#include <cstdint>

#include "base/matrix.h"
#include "tensor/weight_view.h"

namespace mobe {

// out [w.rows, count] = the columns [first, first + count) of w, of any
// format, times its scales.
void ExpandColumns(const WeightView& w, int64_t first, int64_t count,
                   float* out);

// out [w.rows, w.cols] = w.
inline void ExpandWeights(const WeightView& w, float* out) {
  ExpandColumns(w, 0, w.cols, out);
}

}  // namespace mobe
