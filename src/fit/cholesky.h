// Cholesky factors and triangular solves in float32, of any size, serial:
// experts run in parallel outside. For a symmetric positive definite G,
//
//   R^T R = G, R upper triangular,
//
// and G^-1 X by a forward and a backward solve. Triangles of up to kMaxTriangle
// are one kernel, larger ones go by panels of rows: a product (gemm.h) takes
// away the panels that are finished, and the kernel does the rest.
//
// Why not OpenBLAS: its routines are made for large matrices. On a core (Zen 4)
// whose float32 peak is 110 GFLOP/s a factor of rank 96 and both solves for as
// many right-hand sides run at 38, here at 74; at 768 it is 85 and 107. No
// package of Debian has a Cholesky for small ones.
#pragma once

#include <cstdint>

namespace mobe::internal {

// Replaces the upper triangle of g [n, n], rows `stride` apart, by that of R.
// What is below the diagonal is neither needed nor kept. Returns the index of
// the first pivot that is zero or negative, where it stops, or -1. NaN passes,
// into R: a fit that overflows shows in its error.
int64_t Cholesky(int64_t n, float* g, int64_t stride);

// x [n, count], rows x_stride apart, becomes R^-T x, and R^-1 x. Of r [n, n],
// rows r_stride apart, the upper triangle is read; its diagonal must not have
// zeros.
void SolveForward(int64_t n, const float* r, int64_t r_stride, float* x,
                  int64_t x_stride, int64_t count);
void SolveBackward(int64_t n, const float* r, int64_t r_stride, float* x,
                   int64_t x_stride, int64_t count);

}  // namespace mobe::internal
