// AVX-512 with VNNI (Ice Lake, Zen 4 and newer): vpdpbusd multiplies a quad of
// inputs, the same for all, by that of 16 rows, unsigned codes by signed
// inputs.
//
// One token: bound by memory. 64 bytes a load, one block of rows after another;
// the sums of a group depend on no other, which hides their latency.
//
// Several tokens: a tile of kTokens tokens by two blocks of rows, whose integer
// sums, of high and low halves, fill the registers. Few bits are unpacked
// there, once for a tile: the two or three operations are fewer than a tile's
// products.
#if defined(__x86_64__)

#define MOBE_TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define MOBE_INLINE \
  __attribute__((target("avx512f,avx512bw,avx512vnni"), always_inline)) inline

#include "kernels/dot_zmm-inl.h"

namespace mobe {
namespace {

// Bytes that a product of one token asks for ahead, into the second cache: the
// first has too few lines under way. Of the bandwidth of a plain sum over the
// same bytes (Zen 5, two threads, int8), by blocks of rows side by side: 4 and
// the first cache 0.7; the second, 4 blocks 0.8, 2 blocks 0.9, 1 block 0.95.
constexpr int64_t kAhead = 4096;
constexpr int kTokens = 4;
constexpr int kBlocks = 2;

MOBE_INLINE __m512i Inputs(const int8_t* quad) {
  int32_t all = 0;
  __builtin_memcpy(&all, quad, sizeof(all));
  return _mm512_set1_epi32(all);
}

// Sums of products with the high and with the low halves of inputs.
struct Halves {
  __m512i high, low;
};

MOBE_INLINE __m512i Total(const Halves& sums) {
  return _mm512_add_epi32(_mm512_slli_epi32(sums.high, 7), sums.low);
}

// sums += codes times a quad of inputs.
MOBE_INLINE void AddQuad(__m512i codes, const int8_t* high, int64_t to_low,
                         Halves* sums) {
  sums->high = _mm512_dpbusd_epi32(sums->high, codes, Inputs(high));
  sums->low = _mm512_dpbusd_epi32(sums->low, codes, Inputs(high + to_low));
}

// kT tokens' inputs from a quad on: high halves, each token's `stride` behind
// the last one's, and low ones `to_low` behind them.
struct TileInputs {
  const int8_t* high;
  int64_t stride;
  int64_t to_low;
};

// products += the quads from kFirst on of a unit of kB blocks, at `unit` behind
// each of `codes`, times the inputs.
template <int kBits, int kFirst, int kT, int kB>
MOBE_INLINE void AddUnit(const uint8_t* const* codes, int64_t unit,
                         const TileInputs& in, Halves (&products)[kB][kT]) {
  __m512i weights[kB];
  for (int b = 0; b < kB; ++b) {
    weights[b] = CodesOf<kBits, kFirst>(codes[b] + unit);
  }
  for (int t = 0; t < kT; ++t) {
    const int8_t* inputs = in.high + t * in.stride + kFirst * kQuad;
    for (int b = 0; b < kB; ++b) {
      AddQuad(weights[b], inputs, in.to_low, &products[b][t]);
    }
  }
  if constexpr (kFirst + 1 < kUnitQuads<kBits>) {
    AddUnit<kBits, kFirst + 1>(codes, unit, in, products);
  }
}

// kT tokens from `token` on by kB blocks of rows.
template <int kBits, int kT, int kB>
MOBE_INLINE void MultiplyTile(const WeightView& w, const PackedSizes& sizes,
                              const RoundedInputs& x, int64_t token,
                              const LaneRange* lanes, float* y,
                              int64_t y_stride) {
  const int64_t group_quads = RowOf(w.format).group / kQuad;
  const uint8_t* codes[kB];
  const uint16_t* scales[kB];
  __m512 sums[kB][kT];
  for (int b = 0; b < kB; ++b) {
    codes[b] = static_cast<const uint8_t*>(w.codes) +
               lanes[b].block * sizes.code_bytes;
    scales[b] = BlockScales(w, sizes, lanes[b].block);
    for (int t = 0; t < kT; ++t) sums[b][t] = _mm512_setzero_ps();
  }
  TileInputs in = {x.high(token), x.high(1) - x.high(0), x.to_low()};
  for (int64_t g = 0; g < sizes.groups; ++g) {
    const int64_t left = sizes.quads - g * group_quads;
    const int64_t quads = left < group_quads ? left : group_quads;
    const int64_t bytes = quads * kQuadBytes * kBits / 8;
    if constexpr (kT == 1 && kB == 1) {
      for (int64_t ahead = 0; ahead < bytes; ahead += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(codes[0] + kAhead + ahead),
                     _MM_HINT_T1);
      }
    }
    Halves products[kB][kT];
    for (int t = 0; t < kT; ++t) {
      const __m512i middle = _mm512_set1_epi32(
          x.middle[(token + t) * x.groups + g] / kCodeMiddle * MiddleOf(kBits));
      for (int b = 0; b < kB; ++b) {
        products[b][t] = {_mm512_setzero_si512(), middle};
      }
    }
    for (int64_t q = 0; q < quads; q += kUnitQuads<kBits>) {
      AddUnit<kBits, 0>(codes, q * kQuadBytes * kBits / 8, in, products);
      in.high += kUnitQuads<kBits> * kQuad;
    }
    for (int b = 0; b < kB; ++b) {
      codes[b] += bytes;
      const __m512 row_scale = LoadScales(scales[b] + g * kPackedRows);
      for (int t = 0; t < kT; ++t) {
        const __m512 scale = _mm512_mul_ps(
            row_scale, _mm512_set1_ps(x.scales[(token + t) * x.groups + g]));
        sums[b][t] = _mm512_fmadd_ps(
            scale, _mm512_cvtepi32_ps(Total(products[b][t])), sums[b][t]);
      }
    }
  }
  for (int b = 0; b < kB; ++b) {
    for (int t = 0; t < kT; ++t) {
      StoreLanes(sums[b][t], lanes[b], y + t * y_stride + lanes[b].row);
    }
  }
}

template <int kBits, int kB>
MOBE_INLINE void MultiplyBlocks(const WeightView& w, const PackedSizes& sizes,
                                const RoundedInputs& x, int64_t first,
                                int64_t tokens, const LaneRange* lanes,
                                float* y, int64_t y_stride) {
  int64_t t = 0;
  for (; t + kTokens <= tokens; t += kTokens) {
    MultiplyTile<kBits, kTokens, kB>(w, sizes, x, first + t, lanes,
                                     y + t * y_stride, y_stride);
  }
  for (; t + 2 <= tokens; t += 2) {
    MultiplyTile<kBits, 2, kB>(w, sizes, x, first + t, lanes, y + t * y_stride,
                               y_stride);
  }
  for (; t < tokens; ++t) {
    MultiplyTile<kBits, 1, kB>(w, sizes, x, first + t, lanes, y + t * y_stride,
                               y_stride);
  }
}

template <int kBits>
MOBE_TARGET void Multiply(const WeightView& w, const RoundedInputs& x,
                          int64_t first, int64_t tokens, float* y,
                          int64_t y_stride) {
  const PackedSizes sizes = PackedSizesOf(RowOf(w.format), w.cols);
  const int together = tokens > 1 ? kBlocks : 1;
  for (LaneRange next = FirstLanes(w); next.row < w.rows;) {
    LaneRange lanes[kBlocks];
    int count = 0;
    for (; count < together && next.row < w.rows; ++count) {
      lanes[count] = next;
      next = NextLanes(w, next);
    }
    if (count == kBlocks) {
      MultiplyBlocks<kBits, kBlocks>(w, sizes, x, first, tokens, lanes, y,
                                     y_stride);
    } else {
      MultiplyBlocks<kBits, 1>(w, sizes, x, first, tokens, lanes, y, y_stride);
    }
  }
}

// By the bits of the format.
constexpr decltype(&Multiply<8>) kMultiply[] = {
    nullptr,     nullptr,     Multiply<2>, Multiply<3>, Multiply<4>,
    Multiply<5>, Multiply<6>, nullptr,     Multiply<8>};

}  // namespace

void MultiplyAvx512Vnni(const WeightView& w, const RoundedInputs& x,
                        int64_t first, int64_t tokens, float* y,
                        int64_t y_stride) {
  kMultiply[RowOf(w.format).bits](w, x, first, tokens, y, y_stride);
}

}  // namespace mobe

#endif  // __x86_64__
