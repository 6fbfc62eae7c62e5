// Rounding a matrix to a packed format so that its products lose little, rather
// than its numbers: what the rounding of a column has lost is made up for by
// the columns that come after it (GPTQ, arXiv 2210.17323, which equals LDLQ,
// arXiv 2307.13304).
//
// With S the second moment of what the matrix reads, the mean square of what a
// row's products lose is (q - w) S (q - w)^T. With S = R^T R, R upper
// triangular, it is the sum over columns j of
//
//   R[j, j]^2 (q[j] - t[j])^2,
//   t[j] = w[j] - sum_{k > j} (q[k] - w[k]) R[j, k] / R[j, j],
//
// so columns are rounded from the last to the first, each to what is nearest to
// t[j]. The scale of a group is chosen when its last column is reached, for the
// t that it has then, with errors weighted by R[j, j] and not by its square:
// what is least by the square may serve one column of a group and clip the
// others, and predictions suffer. KL divergence of the bundled model's experts,
// 4 bases in 3 bits, A and down in 4: 0.00141 by the square, 0.00134 so,
// 0.00135 unweighted; all in 3 bits 0.0046, 0.0035, 0.0037; plain in 2 and 4
// bits 0.00097, 0.00098, 0.00101, in 3 and 4 0.00053, 0.00052, 0.00055. After
// that some passes go over all columns again, each number moving to what is
// best given all others, and each scale, too.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/matrix.h"
#include "tensor/format.h"

namespace mobe {

// The planes of a matrix (tensor/packed.h), and the numbers they stand for.
struct RoundedMatrix {
  Buffer<std::byte> codes;
  Buffer<std::byte> scales;
  Buffer<float> values;  // [rows, cols]
  // What was rounded, where that is not what a model has; else empty.
  Buffer<float> given;
};

// What weighs a row's losses.
struct RoundingNorm {
  Buffer<float> moment;   // S [cols, cols]
  Buffer<float> factor;   // R, each row over its diagonal
  Buffer<float> weights;  // [cols]: its diagonal
};

// The factor of norm->moment, symmetric, to which as little of its diagonal's
// mean is added, from a millionth on, as makes it definite. One of zeros, where
// nothing is read, becomes the identity.
void FactorMoment(int64_t cols, RoundingNorm* norm);

// w [rows, cols], finite. Serial inside ParallelFor, else parallel; independent
// of the number of threads.
void RoundWithFeedback(const FormatRow& format, const float* w, int64_t rows,
                       int64_t cols, const RoundingNorm& norm,
                       RoundedMatrix* rounded);

// The same in place to the numbers of a dtype of floats, which have no scales;
// serial, and in one pass: another gains nothing where what is lost of a number
// hardly depends on the others.
void RoundWithFeedback(DType dtype, int64_t rows, int64_t cols,
                       const RoundingNorm& norm, float* w);

}  // namespace mobe
