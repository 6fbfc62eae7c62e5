// The inverse of a symmetric matrix, but for its Cholesky factor on all
// threads.
#pragma once

#include <cstdint>

#include "base/matrix.h"

namespace mobe::internal {

// Working memory of InvertDamped; keep it to allocate nothing.
struct InverseScratch {
  Buffer<float> factor;  // [size, size]: R, the Cholesky factor, and
  Buffer<float> root;    // R^-1
};

// inverse [size, size] = (matrix + damping I)^-1, of which the upper triangle
// is read (row-major). What rounding made indefinite is damped ten times more,
// until it is not. Result independent of the number of threads.
void InvertDamped(int64_t size, double damping, const Buffer<float>& matrix,
                  InverseScratch* scratch, Buffer<float>* inverse);

}  // namespace mobe::internal
