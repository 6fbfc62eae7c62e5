// The GEMM seam: dense matrix products, by oneDNN.
//
// Gemm, GemmSubtract and GemmBFloat16 are serial when called inside
// ParallelFor, and that is how the project calls them: who splits the work
// decides the order of every sum, so results do not depend on the number of
// threads.
#pragma once

#include <cstdint>
#include <span>

#include "base/matrix.h"
#include "tensor/weight_view.h"

namespace mobe {

// Arithmetic of products. Both sum in float32; kBFloat16 rounds the activations
// to bfloat16 first, for some three times the speed with many tokens where the
// CPU has such instructions. Weights are used as stored either way;
// FP8 ones, times their scales, are rounded with the activations.
enum class Precision { kFloat32, kBFloat16 };

// oneDNN's number (dnnl_cpu_isa_t) of the instructions that products may use:
// another one may round otherwise.
int GemmInstructions();

// Whether the running thread is in oneDNN. It generates code when a kind of
// product is first run and writes it to address 0 when it got no memory for it
// (2.6 does, and 3): so a program that handles SIGSEGV knows what that means.
bool IsInsideProduct();

enum class Trans { kNo, kYes };

// c = op(a) op(b) + beta c, row-major, with op(a) [m, k], op(b) [k, n], c
// [m, n]; lda, ldb and ldc are the distances between stored rows.
void Gemm(Trans trans_a, Trans trans_b, int64_t m, int64_t n, int64_t k,
          const float* a, int64_t lda, const float* b, int64_t ldb, float beta,
          float* c, int64_t ldc);

// c -= op(a) op(b), likewise.
void GemmSubtract(Trans trans_a, Trans trans_b, int64_t m, int64_t n, int64_t k,
                  const float* a, int64_t lda, const float* b, int64_t ldb,
                  float* c, int64_t ldc);

// c = op(a) op(b), bfloat16 inputs, float32 sums and result.
void GemmBFloat16(Trans trans_a, Trans trans_b, int64_t m, int64_t n, int64_t k,
                  const BFloat16* a, int64_t lda, const BFloat16* b,
                  int64_t ldb, float* c, int64_t ldc);

// Has oneDNN products of bfloat16 on this CPU (from AVX-512 on)? Without them
// GemmBFloat16 fails, and LinearBatch multiplies in float32.
bool HasBFloat16();
// Does the CPU multiply bfloat16 faster than float32 (AVX-512 BF16 or AMX)?
bool HasFastBFloat16();

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
