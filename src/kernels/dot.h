// Products of packed matrices (tensor/packed.h) by integer dot products.
//
// Inputs are rounded to 15 bits, a scale for each group of a token as for each
// group of a row, so that a group's sum of products is an exact integer. They
// are two signed bytes, x = 128 high + low, each of which meets the codes: in
// 8 bits their rounding does as much harm as that of int5 weights (a KL
// divergence of 0.00018 in the bundled model), and one token, which is bound by
// reading the weights, takes hardly longer.
//
//   y[t, r] = sum_g (ws[r, g] xs[t, g]) sum_{c in g} w[r, c] x[t, c]
//
// summed over the groups in float32, in their order, by fused multiply-adds.
// All sets do these same operations, each lane for itself: their results are
// equal to the bit, whatever the set, the tokens that share a call, and the
// threads.
//
// The sets are written in intrinsics, a file each, with target attributes:
// Highway 1.0 has no such instructions. `scalar` is the specification. Which
// one runs is the best that the CPU has; MOBE_INT_KERNELS=name chooses another,
// and MOBE_KERNELS=scalar the scalar set of both.
#pragma once

#include <cstdint>
#include <vector>

#include "base/matrix.h"
#include "tensor/packed.h"

namespace mobe {

// Inputs of a product, rounded.
struct RoundedInputs {
  int64_t tokens = 0;
  int64_t quads = 0;  // as the matrix has them, with those at the end
  int64_t groups = 0;
  Buffer<int8_t> codes;  // [tokens, 2, 4 quads]: high and low halves
  Buffer<float> scales;  // [tokens, groups]
  Buffer<int32_t>
      middle;  // [tokens, groups]: -kCodeMiddle times the codes' sum

  const int8_t* high(int64_t token) const {
    return codes.data() + token * 2 * quads * kQuad;
  }
  // From a high half to the low one.
  int64_t to_low() const { return quads * kQuad; }

  // Makes room for tokens of a matrix of so many columns.
  void Resize(const FormatRow& format, int64_t cols, int64_t count);
};

// Rounds one token's x [cols], each group by KernelSet::to_int15; the rest of
// the quads is zero. What is not finite makes its group's scale NaN, and so the
// results.
void RoundToInt15(const FormatRow& format, const float* x, int64_t cols,
                  int64_t token, RoundedInputs* inputs);

struct DotKernels {
  const char* name;
  const char* mix;  // the set of packed_mix.h for the same processors
  // y[t, r] for the rows of w and the tokens [first, first + tokens) of x; y
  // points at the first of these, rows y_stride apart.
  void (*multiply)(const WeightView& w, const RoundedInputs& x, int64_t first,
                   int64_t tokens, float* y, int64_t y_stride);
};

// The set in use.
const DotKernels& Dots();
// Those that this CPU can run, best first, "scalar" last.
const std::vector<DotKernels>& SupportedDots();

}  // namespace mobe
