// The kernel seam: inner loops that differ between instruction sets.
//
// Each set is a table of functions with the same meaning. `scalar` is plain C++
// and is the specification; the others are one source compiled for each
// instruction set by Highway (google/highway) and agree with it to rounding.
// The best set that the CPU supports is chosen at start; MOBE_KERNELS=name or
// ForceKernels chooses another. All functions are serial; callers split rows or
// ranges over threads (base/parallel.h).
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/matrix.h"
#include "tensor/weight_view.h"

namespace mobe {

// f in W = A f(sum_i alpha_i B_i), arXiv 2508.05257, equation 3.
enum class Activation { kSilu, kTanh, kIdentity };

const char* ActivationName(Activation activation);  // "silu", ...
std::optional<Activation> ActivationFromName(std::string_view name);

// The bases of one layer and kind: basis i is a matrix [rank, cols] of dtype
// F32 or BF16 that starts i * rank * cols elements after `data`.
struct BasesView {
  DType dtype = DType::kF32;
  const void* data = nullptr;
  int64_t num_bases = 0;
  int64_t rank = 0;
  int64_t cols = 0;
};

// Numbers in memory, rows `stride` elements apart: F32, BF16 or I8.
struct TileView {
  DType dtype = DType::kF32;
  const void* data = nullptr;
  int64_t stride = 0;
  // Others of the same shape, which come next: prefetched, unless null.
  const void* ahead = nullptr;
};

// One step of Adam (Kingma and Ba 2015, algorithm 1) with the bias corrections
// folded in: step_size = lr / (1 - beta1^t), denominator_scale =
// 1 / sqrt(1 - beta2^t).
struct AdamStep {
  float beta1 = 0.9f;
  float beta2 = 0.999f;
  float epsilon = 1e-8f;
  float step_size = 0;
  float denominator_scale = 1;
};

// The largest triangle that cholesky and solve_triangle take: their working
// memory is on the stack. fit/cholesky.h puts larger ones together.
inline constexpr int64_t kMaxTriangle = 128;

// Below any score: where softmax_step starts. Not minus infinity, so that
// scores which are have the weight 0, rather than NaN.
inline constexpr float kNoScore = std::numeric_limits<float>::lowest();

// 128 * 127: the largest high half.
inline constexpr float kMostInt15 = 16256;
// What KernelSet::to_int8 and to_int15 give beside the integers: their unit,
// and their sum.
struct RoundedRow {
  float scale = 0;
  int32_t sum = 0;
};

struct KernelSet {
  const char* name;

  // y[t, r] = sum_c w[r, c] x[t, c] for t < tokens and every row r of w, which
  // is stored by rows (packed formats: kernels/dot.h). x rows are x_stride
  // apart, y rows y_stride. Reads each weight once for up to 8 tokens at a
  // time. Sums have one order, whoever shares the call.
  void (*mat_vec)(const WeightView& w, const float* x, int64_t x_stride,
                  int64_t tokens, float* y, int64_t y_stride);

  // out[j] = f(sum_i alpha[i] * bases_i[first + j]) for j < count, where
  // bases_i is basis i read as a flat array: the basis mix. Bases whose alpha
  // is zero are not read, here and in mix_mat_vec.
  void (*basis_mix)(const BasesView& bases, const float* alpha, int64_t first,
                    int64_t count, Activation f, float* out);

  // u[t, k] = sum_j f(sum_i alpha[i] B_i[k, j]) x[t, j] for k in
  // [first_row, first_row + rows) and t < tokens: mix, activation and product
  // with nothing stored but one row of `cols` floats. u rows are u_stride apart
  // and u points at the column of first_row.
  void (*mix_mat_vec)(const BasesView& bases, const float* alpha,
                      int64_t first_row, int64_t rows, Activation f,
                      const float* x, int64_t x_stride, int64_t tokens,
                      float* u, int64_t u_stride);

  // y[j] = f(x[j]); y may be x.
  void (*activate)(Activation f, const float* x, int64_t count, float* y);
  // d[j] = g[j] * f'(x[j]); d may be x or g.
  void (*activate_backward)(Activation f, const float* x, const float* g,
                            int64_t count, float* d);
  // y[j] = silu(gate[j]) * up[j]; y may be gate or up.
  void (*swiglu)(const float* gate, const float* up, int64_t count, float* y);

  // Updates value, first and second moment from the gradient.
  void (*adam)(const AdamStep& step, const float* gradient, int64_t count,
               float* value, float* first_moment, float* second_moment);

  // e[j] = a[j] - scale * b[j] for j < count; returns the sum of e[j]^2. e may
  // be a or b.
  double (*subtract)(const float* a, float scale, const float* b, int64_t count,
                     float* e);

  // Replaces the upper triangle of g [n, n], n <= kMaxTriangle, rows `stride`
  // apart, by that of R, upper triangular, with R^T R = g:
  //   r[k, i] = (g[k, i] - sum_{j<k} r[j, k] r[j, i]) / r[k, k].
  // Neither reads nor writes what is below the diagonal. Returns the first k
  // where r[k, k]^2 would be zero or negative, with g half done, or -1; NaN
  // passes, into the result.
  int64_t (*cholesky)(int64_t n, float* g, int64_t stride);
  // x_k = (x_k - sum_{j<k} t[j, k] x_j) / t[k, k] for k = 0, ..., n - 1 in this
  // order, n <= kMaxTriangle, with x_k the vector of `count` values at x +
  // k x_stride and t[j, k] at t + j row_stride + k col_stride. That solves
  // T^T X = X for upper triangular T; strides may be negative, so that from the
  // last row and column backwards it solves with T itself.
  void (*solve_triangle)(int64_t n, const float* t, int64_t row_stride,
                         int64_t col_stride, float* x, int64_t x_stride,
                         int64_t count);

  // c[r, j] += sum_k a[r, k] b[k, j] for r < rows, k < inner and j < cols, in
  // the order of k; rows of a and c are a_stride and c_stride apart. For tiles
  // that lie in a cache: neither of the operands is packed.
  void (*add_products)(int64_t rows, int64_t inner, int64_t cols,
                       const float* a, int64_t a_stride, const TileView& b,
                       float* c, int64_t c_stride);
  // A step of a softmax whose scores come in pieces (Milakov and Gimelshein
  // 2018, arXiv 1805.02867, algorithm 3): *max and *sum are of the pieces
  // before, kNoScore and 0 at the start. With m the larger of *max and all
  // x[j], replaces x[j] by exp(x[j] - m), to 1 ulp, and *max by m, and returns
  // exp(*max - m), by which *sum and what else has been added up is to be
  // multiplied; this is done with *sum, before the new x are added to it.
  float (*softmax_step)(float* x, int64_t count, float* max, float* sum);

  // z[j] = x[j] + y[j] and x[j] * y[j]; z may be x or y.
  void (*add)(const float* x, const float* y, int64_t count, float* z);
  void (*multiply)(const float* x, const float* y, int64_t count, float* z);
  // y = x / sqrt(mean(x^2) + eps) * weight; y may be x.
  void (*rms_norm)(const float* weight, float eps, const float* x,
                   int64_t count, float* y);
  // Turns each pair (x[j], y[j]) by the angle of cosines[j] and sines[j].
  void (*rotate)(const float* cosines, const float* sines, int64_t count,
                 float* x, float* y);

  // y[j] = x[j] / scale, rounded to nearest even, with scale the largest |x[j]|
  // / 127, and the sum of these. Where an x[j] is not finite, scale is NaN and
  // y zero; where all are below 2^-120, both are zero. Every set gives the same
  // bits.
  RoundedRow (*to_int8)(const float* x, int64_t count, int8_t* y);
  // The same in 15 bits, as 128 high[j] + low[j], with the largest |x[j]| as
  // kMostInt15; low is -64 to 63. Zero below 2^-112.
  RoundedRow (*to_int15)(const float* x, int64_t count, int8_t* high,
                         int8_t* low);
  // y[j] = x[j].
  void (*from_int8)(const int8_t* x, int64_t count, float* y);

  // Conversions, rounding to nearest even.
  void (*to_bfloat16)(const float* x, int64_t count, BFloat16* y);
  void (*from_bfloat16)(const BFloat16* x, int64_t count, float* y);
  void (*from_float16)(const Float16* x, int64_t count, float* y);
  // y[j] = scale * x[j], rounded once.
  void (*from_float8)(const Float8* x, int64_t count, float scale, float* y);
};

// The set in use.
const KernelSet& Kernels();
// Every set that this CPU can run, best first, "scalar" last.
const std::vector<KernelSet>& SupportedKernels();
// Fails with kUserInput, listing the names, when there is no such set here.
void ForceKernels(std::string_view name);

}  // namespace mobe
