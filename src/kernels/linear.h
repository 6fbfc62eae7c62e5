// Linear layers: products of tokens with stored matrices.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/gemm.h"
#include "tensor/weight_view.h"

namespace mobe {

// The two kinds of passes through a model. kPrefill: tokens of prompts, mostly
// many. kDecode: a token that a text has just got, of each of some texts.
enum class Phase { kPrefill, kDecode };

// How a pass computes. What a token gets depends on this, and never on how many
// share the pass or a product: so a text has the same logits, to the bit,
// whoever runs beside it and however its prompt was cut. In decode, where few
// tokens share the reading of the weights, bfloat16 serves where it costs no
// more than reading them: weights in bfloat16, and instructions for it.
struct Arithmetic {
  Phase phase = Phase::kPrefill;
  Precision precision = Precision::kFloat32;
};

// kBFloat16 where there is AVX-512 BF16 or AMX. It is not measured, as it was
// once: the measurement came out otherwise now and then, on a busy machine, and
// with it the text.
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
// Every way has an order of its sums that no other token changes: kernels.h
// (mat_vec and, with kYes, add_products), dot.h and token_lanes.h. oneDNN,
// which adds up otherwise for few tokens, and cuts long sums to fit its caches,
// is not among them: its sgemm was the faster one only from 256 tokens on.
void LinearBatch(std::span<const LinearJob> jobs, const Arithmetic& math);

// A batch of one.
void Linear(const WeightView& w, const float* x, int64_t tokens,
            const Arithmetic& math, float* y);

}  // namespace mobe
