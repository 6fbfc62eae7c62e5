// The inverse of a symmetric matrix on all threads: OpenBLAS' own is serial
// here, as everything of OpenBLAS is, so that no sum depends on their number.
#pragma once

#include <cstdint>

#include "base/matrix.h"

namespace mobe::internal {

// Working memory of InvertDamped; keep it to allocate nothing.
struct InverseScratch {
  Buffer<float> factor;  // [size, size]: L, the Cholesky factor, and
  Buffer<float> root;    // L^-1
};

// inverse [size, size] = (matrix + damping I)^-1, of which the upper triangle
// is read (row-major). What rounding made indefinite is damped ten times more,
// until it is not. Result independent of the number of threads.
void InvertDamped(int64_t size, double damping, const Buffer<float>& matrix,
                  InverseScratch* scratch, Buffer<float>* inverse);

}  // namespace mobe::internal
