// The kernels in Highway's portable vectors, compiled once for each instruction
// set of the architecture.
//
// Equal inputs give equal bits however a caller splits its work: a sum over
// columns is always one vector accumulator per output, filled in the order of
// the columns and reduced at the end, so a result depends neither on how many
// rows or tokens share a call nor on where pointers lie.

// Arrays of accumulators need vectors whose size the compiler knows, which SVE
// and RVV do not have (ARM falls back to NEON). SSSE3 alone is older than any
// CPU worth the compile time. Names of targets are resolved in highway.h.
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kernels_simd.cc"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "kernels/kernels_internal.h"
// In this order: the first includes this file again for every target.
// clang-format off
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "hwy/contrib/math/math-inl.h"
#include "kernels/convert-inl.h"
#include "kernels/attention-inl.h"
#include "kernels/elementwise-inl.h"
#include "kernels/triangle-inl.h"
#include "kernels/vectors-inl.h"
// clang-format on

#ifndef MOBE_KERNELS_SIMD_SHARED
#define MOBE_KERNELS_SIMD_SHARED
namespace mobe {
// A function that makes the set of one Highway target, or null where that was
// not compiled. A constant, so that nothing compiled for an instruction set
// runs before the CPU has been asked.
using MakeKernelsFn = KernelSet (*)(const char* name);
template <int64_t kTarget>
constexpr MakeKernelsFn kMakeKernels = nullptr;
}  // namespace mobe
#endif

// Highway's emulation of vectors adds nothing to the scalar set.
#if HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace mobe {
namespace HWY_NAMESPACE {

// Accumulators of a product: rows by tokens. Besides them a block needs a
// vector for each token and one for the weights; there are 16 registers before
// AVX-512 and 32 elsewhere.
constexpr int kRowBlock = 4;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4
constexpr int kTokenBlock = 2;
#else
constexpr int kTokenBlock = 4;
#endif
// Tokens that share one reading of the weights from memory.
constexpr int64_t kTokenGroup = 8;
// Bases added in one pass over the outputs, and the outputs of a pass: their
// sums stay in the first-level cache, and each basis is read in long runs. One
// vector of every basis in turn would touch a page of memory for each, and as
// bases tend to lie a multiple of a power of two apart, all of them in the same
// few sets of the caches.
constexpr int kMixBlock = 4;
constexpr int64_t kMixColumns = 2048;
// Weights in a row or basis between two rounds of prefetching.
constexpr int64_t kPiece = 128;
// How far mat_vec prefetches. Hardware prefetchers stop at the end of a page
// and have to learn each row anew: without help a core read bfloat16 at 60% of
// the memory's speed in rows of 4096 and at 40% in rows of 768 (Zen 4).
constexpr int64_t kAheadBytes = 32 << 10;

// ---------------------------------------------------------------------------
// Activations.

// 1 + e^-x. Exp wants its argument below 104, where it has long been infinite.
HWY_INLINE V OnePlusExpMinus(V x) {
  const V argument = hn::Min(hn::Neg(x), hn::Set(kFloats, 104.0f));
  return hn::Add(hn::Set(kFloats, 1.0f), hn::Exp(kFloats, argument));
}

struct Silu {
  HWY_INLINE V Value(V x) const { return hn::Div(x, OnePlusExpMinus(x)); }
  HWY_INLINE V Slope(V x) const {
    const V one = hn::Set(kFloats, 1.0f);
    const V s = hn::Div(one, OnePlusExpMinus(x));
    return hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
  }
};

struct Tanh {
  HWY_INLINE V Value(V x) const { return hn::Tanh(kFloats, x); }
  HWY_INLINE V Slope(V x) const {
    const V t = Value(x);
    return hn::NegMulAdd(t, t, hn::Set(kFloats, 1.0f));
  }
};

struct Identity {
  HWY_INLINE V Value(V x) const { return x; }
  HWY_INLINE V Slope(V) const { return hn::Set(kFloats, 1.0f); }
};

template <class F>
void ActivateWith(F f, const float* x, int64_t count, float* y) {
  ForEachVector(count, [=](auto io, int64_t j) HWY_ATTR {
    io.Store(f.Value(io.Load(x + j)), y + j);
  });
}

void Activate(Activation f, const float* x, int64_t count, float* y) {
  switch (f) {
    case Activation::kSilu:
      return ActivateWith(Silu(), x, count, y);
    case Activation::kTanh:
      return ActivateWith(Tanh(), x, count, y);
    case Activation::kIdentity:
      if (x != y) ActivateWith(Identity(), x, count, y);
  }
}

template <class F>
void ActivateBackwardWith(F f, const float* x, const float* g, int64_t count,
                          float* d) {
  ForEachVector(count, [=](auto io, int64_t j) HWY_ATTR {
    io.Store(hn::Mul(io.Load(g + j), f.Slope(io.Load(x + j))), d + j);
  });
}

void ActivateBackward(Activation f, const float* x, const float* g,
                      int64_t count, float* d) {
  switch (f) {
    case Activation::kSilu:
      return ActivateBackwardWith(Silu(), x, g, count, d);
    case Activation::kTanh:
      return ActivateBackwardWith(Tanh(), x, g, count, d);
    case Activation::kIdentity:
      return ActivateBackwardWith(Identity(), x, g, count, d);
  }
}

void Swiglu(const float* gate, const float* up, int64_t count, float* y) {
  ForEachVector(count, [=](auto io, int64_t j) HWY_ATTR {
    io.Store(hn::Mul(Silu().Value(io.Load(gate + j)), io.Load(up + j)), y + j);
  });
}

// ---------------------------------------------------------------------------
// Products.

// Adjacent rows of a matrix, from the first on.
template <class T>
struct Rows {
  const T* data;
  const T* ahead;  // prefetches as many weights from here on, unless null
  int64_t cols;
  // Of Float8: the view, and the first row's place in it.
  const WeightView* view = nullptr;
  int64_t first = 0;
};

// sums[r][t] += w[r, c] x[t, c] over the columns [first, last) of w.
template <int kRows, int kTokens, class T>
HWY_INLINE void AddProducts(const Rows<T>& w, int64_t first, int64_t last,
                            const float* x, int64_t x_stride,
                            V (&sums)[kRows][kTokens]) {
  for (; first < last; first += kPiece) {
    if (w.ahead != nullptr) Prefetch(w.ahead + kRows * first, kRows * kPiece);
    ForEachVector(std::min(kPiece, last - first),
                  [&, first](auto io, int64_t j) HWY_ATTR {
                    const int64_t c = first + j;
                    V in[kTokens];
                    for (int t = 0; t < kTokens; ++t) {
                      in[t] = io.Load(x + t * x_stride + c);
                    }
                    for (int r = 0; r < kRows; ++r) {
                      const V weights = io.Load(w.data + r * w.cols + c);
                      for (int t = 0; t < kTokens; ++t) {
                        sums[r][t] = hn::MulAdd(weights, in[t], sums[r][t]);
                      }
                    }
                  });
  }
}

template <int kRows, int kTokens>
HWY_INLINE void SetToZero(V (&sums)[kRows][kTokens]) {
  for (auto& row : sums) {
    for (V& sum : row) sum = hn::Zero(kFloats);
  }
}

// kRows rows of w by kTokens tokens.
template <int kRows, int kTokens, class T>
void DotBlock(const Rows<T>& w, const float* x, int64_t x_stride, float* y,
              int64_t y_stride) {
  V sums[kRows][kTokens];
  SetToZero(sums);
  AddProducts(w, 0, w.cols, x, x_stride, sums);
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTokens; ++t) y[t * y_stride + r] = Sum(sums[r][t]);
  }
}

using MagnitudeTag = hn::ScalableTag<uint8_t>;
using Magnitudes = hn::Vec<MagnitudeTag>;
constexpr MagnitudeTag kMagnitudes;
constexpr int64_t kMagnitudeLanes = hn::MaxLanes(kMagnitudes);

// The largest in each lane of `most` and the FP8 numbers from p on, without
// signs. To look for NaN so, the largest of all, costs less than in each vector
// of floats.
HWY_INLINE Magnitudes Largest(Magnitudes most, const Float8* p, int64_t count) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(p);
  const auto without_sign = hn::Set(kMagnitudes, 0x7f);
  int64_t i = 0;
  for (; i + kMagnitudeLanes <= count; i += kMagnitudeLanes) {
    const auto all = hn::LoadU(kMagnitudes, bytes + i);
    most = hn::Max(most, hn::And(all, without_sign));
  }
  if (i == count) return most;
  uint8_t rest[kMagnitudeLanes] = {};
  std::memcpy(rest, bytes + i, static_cast<size_t>(count - i));
  return hn::Max(most, hn::And(hn::LoadU(kMagnitudes, rest), without_sign));
}

HWY_INLINE bool HasNan(Magnitudes most) {
  const auto is_nan = hn::Eq(most, hn::Set(kMagnitudes, 0x7f));
  return !hn::AllFalse(kMagnitudes, is_nan);
}

// FP8 is scaled after each block of columns, rather than each number.
template <int kRows, int kTokens>
void DotBlock(const Rows<Float8>& w, const float* x, int64_t x_stride, float* y,
              int64_t y_stride) {
  const float* scales[kRows];
  for (int r = 0; r < kRows; ++r) scales[r] = w.view->RowScales(w.first + r);
  V totals[kRows][kTokens];
  SetToZero(totals);
  Magnitudes most[kRows];
  for (auto& row : most) row = hn::Zero(kMagnitudes);
  int64_t block = 0;
  for (int64_t first = 0; first < w.cols; ++block) {
    const int64_t last = first + std::min(w.view->block_cols, w.cols - first);
    V sums[kRows][kTokens];
    SetToZero(sums);
    AddProducts(w, first, last, x, x_stride, sums);
    for (int r = 0; r < kRows; ++r) {
      most[r] = Largest(most[r], w.data + r * w.cols + first, last - first);
      const V scale = hn::Set(kFloats, scales[r][block]);
      for (int t = 0; t < kTokens; ++t) {
        const V sum = hn::Mul(sums[r][t], hn::Set(kFloats, kFloat8Unit));
        totals[r][t] = hn::MulAdd(scale, sum, totals[r][t]);
      }
    }
    first = last;
  }
  for (int r = 0; r < kRows; ++r) {
    const bool is_nan = HasNan(most[r]);
    for (int t = 0; t < kTokens; ++t) {
      y[t * y_stride + r] =
          is_nan ? std::numeric_limits<float>::quiet_NaN() : Sum(totals[r][t]);
    }
  }
}

// kRows rows by `tokens` tokens, in blocks of kTokens and then of half as many.
// Only the first block prefetches.
template <int kRows, int kTokens = kTokenBlock, class T>
void DotRows(Rows<T> w, const float* x, int64_t x_stride, int64_t tokens,
             float* y, int64_t y_stride) {
  for (; tokens >= kTokens; tokens -= kTokens) {
    DotBlock<kRows, kTokens>(w, x, x_stride, y, y_stride);
    w.ahead = nullptr;
    x += kTokens * x_stride;
    y += kTokens * y_stride;
  }
  if constexpr (kTokens > 1) {
    if (tokens > 0) {
      DotRows<kRows, kTokens / 2>(w, x, x_stride, tokens, y, y_stride);
    }
  }
}

template <class T>
void MatVecOf(const WeightView& w, const float* x, int64_t x_stride,
              int64_t tokens, float* y, int64_t y_stride) {
  constexpr int64_t kAhead = kAheadBytes / sizeof(T);
  const auto rows = [&w](int64_t first) -> Rows<T> {
    return {w.Row<T>(first), nullptr, w.cols, &w, first};
  };
  for (int64_t t = 0; t < tokens; t += kTokenGroup) {
    const int64_t group = std::min(kTokenGroup, tokens - t);
    const float* in = x + t * x_stride;
    float* out = y + t * y_stride;
    int64_t r = 0;
    for (; r + kRowBlock <= w.rows; r += kRowBlock) {
      Rows<T> block = rows(r);
      if ((w.rows - r) * w.cols > kAhead) block.ahead = block.data + kAhead;
      DotRows<kRowBlock>(block, in, x_stride, group, out + r, y_stride);
    }
    for (; r < w.rows; ++r) {
      DotRows<1>(rows(r), in, x_stride, group, out + r, y_stride);
    }
  }
}

void MatVec(const WeightView& w, const float* x, int64_t x_stride,
            int64_t tokens, float* y, int64_t y_stride) {
  switch (w.format) {
    case NumberFormat::kF8:
      return MatVecOf<Float8>(w, x, x_stride, tokens, y, y_stride);
    case NumberFormat::kBF16:
      return MatVecOf<BFloat16>(w, x, x_stride, tokens, y, y_stride);
    case NumberFormat::kF16:
      return MatVecOf<Float16>(w, x, x_stride, tokens, y, y_stride);
    default:
      return MatVecOf<float>(w, x, x_stride, tokens, y, y_stride);
  }
}

// ---------------------------------------------------------------------------
// The basis mix.

// Up to kMixBlock bases that are added at once.
template <class T>
struct MixBlock {
  const T* bases[kMixBlock];
  float alpha[kMixBlock];
  int size = 0;
};

// The next bases from *i on whose alpha is not zero; *i moves behind them.
template <class T>
MixBlock<T> NextBlock(const T* bases, int64_t num_bases, int64_t stride,
                      const float* alpha, int64_t* i) {
  MixBlock<T> block;
  for (; *i < num_bases && block.size < kMixBlock; ++*i) {
    if (alpha[*i] == 0) continue;
    block.bases[block.size] = bases + *i * stride;
    block.alpha[block.size++] = alpha[*i];
  }
  return block;
}

// out[j] += sum over kBases of alpha[i] * bases[i][first + j], from the bases
// of the block that begin at `at`; prefetches the same of `next` from
// `next_first` on.
template <int kBases, class T>
void AddBases(const MixBlock<T>& block, int at, int64_t first,
              const MixBlock<T>& next, int64_t next_first, int64_t count,
              float* out) {
  V factors[kBases];
  const T* bases[kBases];
  for (int i = 0; i < kBases; ++i) {
    factors[i] = hn::Set(kFloats, block.alpha[at + i]);
    bases[i] = block.bases[at + i] + first;
  }
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    for (int i = at; i < std::min(at + kBases, next.size); ++i) {
      Prefetch(next.bases[i] + next_first + begin, kPiece);
    }
    ForEachVector(std::min(kPiece, count - begin),
                  [&, begin](auto io, int64_t k) HWY_ATTR {
                    const int64_t j = begin + k;
                    V sum = io.Load(out + j);
                    for (int i = 0; i < kBases; ++i) {
                      sum = hn::MulAdd(factors[i], io.Load(bases[i] + j), sum);
                    }
                    io.Store(sum, out + j);
                  });
  }
}

template <class T>
void MixOf(const T* bases, int64_t num_bases, int64_t stride,
           const float* alpha, int64_t count, Activation f, float* out) {
  int64_t behind_first = 0;
  const MixBlock<T> first_block =
      NextBlock(bases, num_bases, stride, alpha, &behind_first);
  for (int64_t j = 0; j < count; j += kMixColumns) {
    const int64_t columns = std::min(kMixColumns, count - j);
    std::fill_n(out + j, columns, 0.0f);
    int64_t i = behind_first;
    MixBlock<T> block = first_block;
    while (block.size > 0) {
      MixBlock<T> next = NextBlock(bases, num_bases, stride, alpha, &i);
      // After the last block come the next columns of the first.
      const bool last = next.size == 0;
      const MixBlock<T>& ahead = last ? first_block : next;
      const int64_t ahead_first = last ? j + kMixColumns : j;
      if (block.size == kMixBlock) {
        AddBases<kMixBlock>(block, 0, j, ahead, ahead_first, columns, out + j);
      } else {
        for (int at = 0; at < block.size; ++at) {
          AddBases<1>(block, at, j, ahead, ahead_first, columns, out + j);
        }
      }
      block = next;
    }
    Activate(f, out + j, columns, out + j);
  }
}

void BasisMix(const BasesView& bases, const float* alpha, int64_t first,
              int64_t count, Activation f, float* out) {
  const int64_t stride = bases.rank * bases.cols;
  if (bases.dtype == DType::kBF16) {
    MixOf(static_cast<const BFloat16*>(bases.data) + first, bases.num_bases,
          stride, alpha, count, f, out);
  } else {
    MixOf(static_cast<const float*>(bases.data) + first, bases.num_bases,
          stride, alpha, count, f, out);
  }
}

void MixMatVec(const BasesView& bases, const float* alpha, int64_t first_row,
               int64_t rows, Activation f, const float* x, int64_t x_stride,
               int64_t tokens, float* u, int64_t u_stride) {
  float* row = RowScratch(bases.cols);
  for (int64_t k = 0; k < rows; ++k) {
    BasisMix(bases, alpha, (first_row + k) * bases.cols, bases.cols, f, row);
    const Rows<float> mixed = {row, nullptr, bases.cols};
    DotRows<1>(mixed, x, x_stride, tokens, u + k, u_stride);
  }
}

KernelSet MakeKernels(const char* name) {
  return {.name = name,
          .mat_vec = MatVec,
          .basis_mix = BasisMix,
          .mix_mat_vec = MixMatVec,
          .activate = Activate,
          .activate_backward = ActivateBackward,
          .swiglu = Swiglu,
          .adam = Adam,
          .subtract = Subtract,
          .cholesky = Cholesky,
          .solve_triangle = SolveTriangle,
          .add_products = AddProductsOfTile,
          .softmax_step = SoftmaxStep,
          .add = Add,
          .multiply = Multiply,
          .rms_norm = RmsNormRow,
          .rotate = Rotate,
          .to_int8 = ToInt8s,
          .to_int15 = ToInt15s,
          .from_int8 = FromInt8s,
          .to_bfloat16 = ToBFloat16s,
          .from_bfloat16 = FromBFloat16s,
          .from_float16 = FromFloat16s,
          .from_float8 = FromFloat8s};
}

}  // namespace HWY_NAMESPACE
}  // namespace mobe
HWY_AFTER_NAMESPACE();

namespace mobe {
template <>
constexpr MakeKernelsFn kMakeKernels<HWY_TARGET> = &HWY_NAMESPACE::MakeKernels;
}  // namespace mobe
#endif  // HWY_TARGET

#if HWY_ONCE
namespace mobe {
namespace {

// The name of a target in lower case, kept for the life of the program.
template <int64_t kTarget>
const char* LowerName() {
  static const std::string name = [] {
    std::string lower = hwy::TargetName(kTarget);
    for (char& c : lower) c = static_cast<char>(std::tolower(c));
    return lower;
  }();
  return name.c_str();
}

template <int64_t kTarget>
void AddKernels(int64_t supported, std::vector<KernelSet>& sets) {
  if constexpr (kMakeKernels<kTarget> != nullptr) {
    if (supported & kTarget) {
      sets.push_back(kMakeKernels<kTarget>(LowerName<kTarget>()));
    }
  }
}

// Highway numbers targets from the best, bit 0, to the worst, bit 62.
template <int... kBits>
std::vector<KernelSet> AllKernels(std::integer_sequence<int, kBits...>) {
  const int64_t supported = hwy::SupportedTargets();
  std::vector<KernelSet> sets;
  (AddKernels<(int64_t{1} << kBits)>(supported, sets), ...);
  return sets;
}

}  // namespace

std::vector<KernelSet> SimdKernels() {
  return AllKernels(std::make_integer_sequence<int, 63>());
}

}  // namespace mobe
#endif  // HWY_ONCE
