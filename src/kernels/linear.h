// Linear layers: products of tokens with stored matrices.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/gemm.h"
#include "tensor/weight_view.h"

namespace mobe {

// The one in which many tokens meet bfloat16 weights faster here, as measured
// when it is first asked for, in some 20 ms: instructions alone don't tell.
// kFloat32 where kBFloat16 is not faster by a quarter, for it rounds.
Precision FasterPrecision();

// A linear layer without bias: y[t, r] = sum_c w[r, c] x[t, c], x [tokens,
// w.cols] and y [tokens, w.rows] without gaps. With kYes, by the transpose:
// y[t, c] = sum_r w[r, c] x[t, r].
struct LinearJob {
  WeightView w;
  const float* x = nullptr;
  int64_t tokens = 0;
  float* y = nullptr;
  Trans trans = Trans::kNo;

  int64_t inputs() const { return trans == Trans::kNo ? w.cols : w.rows; }
  int64_t outputs() const { return trans == Trans::kNo ? w.rows : w.cols; }
};

// Runs the jobs, parallel over the outputs of all of them together: many small
// products (experts; query, key and value) then keep every thread busy between
// one fork and one join.
//
// What a token gets does not depend, to the bit, on how many share the call.
// Sums in float32 have an order of their own (kernels.h: mat_vec and, with
// kYes, add_products; oneDNN's sgemm adds fewer than 16 tokens otherwise than
// more, and was the faster one only from 256 tokens on). That oneDNN's products
// of bfloat16 keep one order, too, gemm_test asks on every machine that runs
// it; but where there is AMX, with which oneDNN cuts sums of some thousand
// inputs to fit its caches, of shorter sums alone.
void LinearBatch(std::span<const LinearJob> jobs, Precision precision);

// A batch of one.
void Linear(const WeightView& w, const float* x, int64_t tokens,
            Precision precision, float* y);

}  // namespace mobe
