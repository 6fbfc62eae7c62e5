// Triangles: Cholesky factors and solves, for kernels_simd.cc. Rows of
// right-hand sides are vectors, a row loses the multiples of all before it at
// once (left-looking), and is written once. Each value is one chain of
// multiply-adds in the order of the rows, in whatever block it lies.

// Highway's guard: included again for every target.
#if defined(MOBE_KERNELS_TRIANGLE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOBE_KERNELS_TRIANGLE_INL_H_
#undef MOBE_KERNELS_TRIANGLE_INL_H_
#else
#define MOBE_KERNELS_TRIANGLE_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/kernels.h"
#include "kernels/vectors-inl.h"

#if HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace mobe {
namespace HWY_NAMESPACE {

// Rows of a triangular solve that are eliminated at once, and vectors of each:
// their accumulators, the vectors of one more row and a coefficient fill most
// of the registers. A row block must not straddle vectors (see FactorRows).
constexpr int kSolveRows = kLanes >= 16 ? 8 : 4;
constexpr int kSolveVectors = kLanes >= 16 ? 3 : 2;

struct Triangle {
  const float* data;
  int64_t row_stride;
  int64_t col_stride;
  float* inverses;  // of the diagonal

  HWY_INLINE float At(int64_t j, int64_t k) const {
    return data[j * row_stride + k * col_stride];
  }
};

// Finishes the rows [k, k + kRows) of kVectors vectors at x; those before are
// finished. With kPivot the rows are part of the triangle and hold its diagonal
// block, so that its pivots are found here. Returns the row of one that is zero
// or negative, or -1.
template <int kRows, int kVectors, bool kPivot>
HWY_INLINE int64_t Eliminate(const Triangle& t, int64_t k, float* x,
                             int64_t stride) {
  V rows[kRows][kVectors];
  float* out = x + k * stride;
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      rows[r][v] = hn::Load(kFloats, out + r * stride + v * kLanes);
    }
  }
  for (int64_t j = 0; j < k; ++j) {
    V before[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      before[v] = hn::Load(kFloats, x + j * stride + v * kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
      const V factor = hn::Set(kFloats, t.At(j, k + r));
      for (int v = 0; v < kVectors; ++v) {
        rows[r][v] = hn::NegMulAdd(factor, before[v], rows[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    if constexpr (kPivot) {
      hn::Store(rows[r][0], kFloats, out + r * stride);
      const float pivot = t.At(k + r, k + r);
      if (pivot <= 0) return k + r;
      t.inverses[k + r] = 1.0f / std::sqrt(pivot);
    }
    const V inverse = hn::Set(kFloats, t.inverses[k + r]);
    for (int v = 0; v < kVectors; ++v) {
      rows[r][v] = hn::Mul(rows[r][v], inverse);
      hn::Store(rows[r][v], kFloats, out + r * stride + v * kLanes);
    }
    for (int below = r + 1; below < kRows; ++below) {
      const V factor = hn::Set(kFloats, t.At(k + r, k + below));
      for (int v = 0; v < kVectors; ++v) {
        rows[below][v] = hn::NegMulAdd(factor, rows[r][v], rows[below][v]);
      }
    }
  }
  return -1;
}

// The rows [k, n) in blocks of kRows and then of half as many.
template <int kVectors, int kRows = kSolveRows>
void EliminateRows(const Triangle& t, int64_t n, int64_t k, float* x) {
  for (; k + kRows <= n; k += kRows) {
    Eliminate<kRows, kVectors, false>(t, k, x, kVectors * kLanes);
  }
  if constexpr (kRows > 1) {
    if (k < n) EliminateRows<kVectors, kRows / 2>(t, n, k, x);
  }
}

// Solves for kVectors vectors at x, the last of which io loads and stores. They
// are copied to the stack: rows of x may lie a multiple of a power of two apart
// and then fall into few sets of the cache, and ends become whole vectors.
template <int kVectors, class Io>
void SolveStrip(const Triangle& t, int64_t n, const Io& io, float* x,
                int64_t x_stride) {
  constexpr int kLast = kVectors - 1;
  HWY_ALIGN float strip[kMaxTriangle * kVectors * kLanes];
  float* row = strip;
  for (int64_t k = 0; k < n; ++k, row += kVectors * kLanes) {
    const float* from = x + k * x_stride;
    for (int v = 0; v < kLast; ++v) {
      hn::Store(hn::LoadU(kFloats, from + v * kLanes), kFloats,
                row + v * kLanes);
    }
    hn::Store(io.Load(from + kLast * kLanes), kFloats, row + kLast * kLanes);
  }
  EliminateRows<kVectors>(t, n, 0, strip);
  row = strip;
  for (int64_t k = 0; k < n; ++k, row += kVectors * kLanes) {
    float* to = x + k * x_stride;
    for (int v = 0; v < kLast; ++v) {
      hn::StoreU(hn::Load(kFloats, row + v * kLanes), kFloats, to + v * kLanes);
    }
    io.Store(hn::Load(kFloats, row + kLast * kLanes), to + kLast * kLanes);
  }
}

void SolveTriangle(int64_t n, const float* t, int64_t row_stride,
                   int64_t col_stride, float* x, int64_t x_stride,
                   int64_t count) {
  float inverses[kMaxTriangle];
  const Triangle triangle = {t, row_stride, col_stride, inverses};
  for (int64_t k = 0; k < n; ++k) inverses[k] = 1.0f / triangle.At(k, k);
  constexpr int64_t kStrip = kSolveVectors * kLanes;
  int64_t i = 0;
  for (; i + kStrip <= count; i += kStrip) {
    SolveStrip<kSolveVectors>(triangle, n, Whole(), x + i, x_stride);
  }
  ForEachVector(count - i, [=](auto io, int64_t j) HWY_ATTR {
    SolveStrip<1>(triangle, n, io, x + i + j, x_stride);
  });
}

// Finishes the rows [k, n) of the triangle, `width` apart, in blocks of kRows
// and then of half as many: the vector with the diagonal block first, which has
// values below the diagonal in its lanes that nothing reads, then the rest.
template <int kRows = kSolveRows>
int64_t FactorRows(const Triangle& t, int64_t n, int64_t k, float* rows,
                   int64_t width) {
  static_assert(kLanes % kRows == 0);
  for (; k + kRows <= n; k += kRows) {
    int64_t i = k / kLanes * kLanes;
    const int64_t failed = Eliminate<kRows, 1, true>(t, k, rows + i, width);
    if (failed >= 0) return failed;
    i += kLanes;
    for (; i + kSolveVectors * kLanes <= width; i += kSolveVectors * kLanes) {
      Eliminate<kRows, kSolveVectors, false>(t, k, rows + i, width);
    }
    for (; i < width; i += kLanes) {
      Eliminate<kRows, 1, false>(t, k, rows + i, width);
    }
  }
  if constexpr (kRows > 1) {
    if (k < n) return FactorRows<kRows / 2>(t, n, k, rows, width);
  }
  return -1;
}

int64_t Cholesky(int64_t n, float* g, int64_t stride) {
  HWY_ALIGN float rows[kMaxTriangle * kMaxTriangle];
  float inverses[kMaxTriangle];
  const int64_t width = (n + kLanes - 1) / kLanes * kLanes;
  for (int64_t k = 0; k < n; ++k) {
    float* row = rows + k * width;
    std::fill_n(row, k, 0.0f);
    std::copy_n(g + k * stride + k, n - k, row + k);
    std::fill_n(row + n, width - n, 0.0f);
  }
  const int64_t failed =
      FactorRows({rows, width, 1, inverses}, n, 0, rows, width);
  for (int64_t k = 0; k < n; ++k) {
    std::copy_n(rows + k * width + k, n - k, g + k * stride + k);
  }
  return failed;
}

}  // namespace HWY_NAMESPACE
}  // namespace mobe
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET
#endif  // MOBE_KERNELS_TRIANGLE_INL_H_
