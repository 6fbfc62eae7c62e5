// The kernels of attention: products with tiles of the cache, and a softmax in
// pieces.

// Highway's guard: included again for every target.
#if defined(MOBE_KERNELS_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOBE_KERNELS_ATTENTION_INL_H_
#undef MOBE_KERNELS_ATTENTION_INL_H_
#else
#define MOBE_KERNELS_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "kernels/kernels.h"
#include "kernels/vectors-inl.h"

#if HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace mobe {
namespace HWY_NAMESPACE {

// Accumulators of add_products, and the rows of a block: the more rows, the
// fewer conversions of b. 16 of 32 registers, or 8 of 16 before AVX-512.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4
constexpr int kSums = 8;
constexpr int kMostRows = 4;
#else
constexpr int kSums = 16;
constexpr int kMostRows = 8;
#endif
// More vectors than this don't help: four chains of sums hide the latency.
constexpr int kMostVectors = 4;

// Operands at the first row and column of a block.
template <class T>
struct TileOperands {
  const float* a;
  int64_t a_stride;
  const T* b;
  int64_t b_stride;
  const T* ahead;  // as of TileView; of the first block of rows
  float* c;
  int64_t c_stride;
};

// kRows rows by kVectors vectors of columns.
template <int kRows, int kVectors, class T, class Io>
HWY_INLINE void TileBlock(int64_t inner, const TileOperands<T>& p, int64_t j,
                          Io io) {
  V sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = io.Load(p.c + r * p.c_stride + j + v * kLanes);
    }
  }
  const T* b = p.b + j;
  for (int64_t k = 0; k < inner; ++k, b += p.b_stride) {
    if (p.ahead != nullptr) {
      Prefetch(p.ahead + j + k * p.b_stride, kVectors * kLanes);
    }
    V row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = io.Load(b + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const V factor = hn::Set(kFloats, p.a[r * p.a_stride + k]);
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = hn::MulAdd(factor, row[v], sums[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      io.Store(sums[r][v], p.c + r * p.c_stride + j + v * kLanes);
    }
  }
}

// All rows of kVectors vectors of columns: in blocks of kRows, and then of half
// as many.
template <int kRows, int kVectors, class T, class Io>
HWY_INLINE void TileColumns(int64_t rows, int64_t inner, TileOperands<T> p,
                            int64_t j, Io io) {
  for (; rows >= kRows; rows -= kRows) {
    TileBlock<kRows, kVectors>(inner, p, j, io);
    p.ahead = nullptr;
    p.a += kRows * p.a_stride;
    p.c += kRows * p.c_stride;
  }
  if constexpr (kRows > 1) {
    if (rows > 0) TileColumns<kRows / 2, kVectors>(rows, inner, p, j, io);
  }
}

template <int kRows, class T>
void TileProducts(int64_t rows, int64_t inner, int64_t cols,
                  const TileOperands<T>& p) {
  constexpr int kVectors = std::min(kMostVectors, kSums / kRows);
  constexpr int64_t kStep = kVectors * kLanes;
  int64_t j = 0;
  for (; j + kStep <= cols; j += kStep) {
    TileColumns<kRows, kVectors>(rows, inner, p, j, Whole());
  }
  for (; j + kLanes <= cols; j += kLanes) {
    TileColumns<kRows, 1>(rows, inner, p, j, Whole());
  }
  if (j < cols) TileColumns<kRows, 1>(rows, inner, p, j, Part{cols - j});
}

template <class T>
void AddTileProducts(int64_t rows, int64_t inner, int64_t cols, const float* a,
                     int64_t a_stride, const TileView& b, float* c,
                     int64_t c_stride) {
  const TileOperands<T> p = {a,
                             a_stride,
                             static_cast<const T*>(b.data),
                             b.stride,
                             static_cast<const T*>(b.ahead),
                             c,
                             c_stride};
  if (rows >= kMostRows) {
    TileProducts<kMostRows>(rows, inner, cols, p);
  } else if (rows > 1) {
    TileProducts<2>(rows, inner, cols, p);
  } else {
    TileProducts<1>(rows, inner, cols, p);
  }
}

void AddProductsOfTile(int64_t rows, int64_t inner, int64_t cols,
                       const float* a, int64_t a_stride, const TileView& b,
                       float* c, int64_t c_stride) {
  if (b.dtype == DType::kI8) {
    AddTileProducts<int8_t>(rows, inner, cols, a, a_stride, b, c, c_stride);
  } else if (b.dtype == DType::kBF16) {
    AddTileProducts<BFloat16>(rows, inner, cols, a, a_stride, b, c, c_stride);
  } else {
    AddTileProducts<float>(rows, inner, cols, a, a_stride, b, c, c_stride);
  }
}

// e^x for x <= 0: Highway's polynomial after a reduction by ln 2, which is off
// by 1 ulp and takes NaN for 0.
HWY_INLINE V ExpOfNegative(V x) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(kFloats, x));
}

float SoftmaxStep(float* x, int64_t count, float* max, float* sum) {
  V most = hn::Set(kFloats, *max);
  ForEachVector(count, [&](auto io, int64_t j) HWY_ATTR {
    most = hn::Max(most, io.LoadOr(x + j, *max));
  });
  const float largest = hn::GetLane(hn::MaxOfLanes(kFloats, most));
  const V shift = hn::Set(kFloats, largest);
  V total = hn::Zero(kFloats);
  ForEachVector(count, [&](auto io, int64_t j) HWY_ATTR {
    const V y = ExpOfNegative(hn::Sub(io.Load(x + j), shift));
    io.Store(y, x + j);
    total = hn::Add(total, io.OrZero(y));
  });
  const float factor =
      hn::GetLane(ExpOfNegative(hn::Set(kFloats, *max - largest)));
  *sum = *sum * factor + Sum(total);
  *max = largest;
  return factor;
}

}  // namespace HWY_NAMESPACE
}  // namespace mobe
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET
#endif  // MOBE_KERNELS_ATTENTION_INL_H_
