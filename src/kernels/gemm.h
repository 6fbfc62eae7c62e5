// The GEMM seam: dense matrix products, by oneDNN.
//
// Gemm, GemmSubtract and GemmBFloat16 are serial when called inside
// ParallelFor, and that is how the project calls them: who splits the work
// decides the order of every sum, so results do not depend on the number of
// threads.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace mobe {

// Arithmetic of products. Both sum in float32; kBFloat16 rounds the activations
// to bfloat16 first where the CPU has instructions for that (token_lanes.h),
// for some three times the speed with many tokens. Weights are used as stored
// either way; FP8 ones, times their scales, may be rounded with the
// activations.
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

// c = a b, integers: a [m, k], b [k, n], c [m, n].
void GemmInt8(int64_t m, int64_t n, int64_t k, const uint8_t* a, int64_t lda,
              const int8_t* b, int64_t ldb, int32_t* c, int64_t ldc);

// Has oneDNN products of bfloat16 on this CPU (from AVX-512 on)? Without them
// GemmBFloat16 fails.
bool HasBFloat16();
// Does the CPU multiply bfloat16 faster than float32 (AVX-512 BF16 or AMX)?
bool HasFastBFloat16();

}  // namespace mobe
