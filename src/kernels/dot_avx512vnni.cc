// AVX-512 with VNNI (Ice Lake, Zen 4 and newer): vpdpbusd multiplies a quad of
// inputs, the same for all, by that of 16 rows, unsigned codes by signed
// inputs.
//
// One token: bound by memory. 64 bytes a load, one block of rows after another;
// the sums of a group depend on no other, which hides their latency. Few bits
// are unpacked in registers.
//
// Several tokens: a tile of kTokens tokens by two blocks of rows, whose integer
// sums, of high and low halves, fill the registers; codes of few bits are
// unpacked once for all tokens.
#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

#include "kernels/dot_internal.h"

#define MOBE_TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define MOBE_INLINE \
  __attribute__((target("avx512f,avx512bw,avx512vnni"), always_inline)) inline

namespace mobe {
namespace {

// Bytes that a product of one token asks for ahead, into the second cache: the
// first has too few lines under way. Of the bandwidth of a plain sum over the
// same bytes (Zen 5, two threads, int8), by blocks of rows side by side: 4 and
// the first cache 0.7; the second, 4 blocks 0.8, 2 blocks 0.9, 1 block 0.95.
constexpr int64_t kAhead = 4096;
constexpr int kTokens = 4;
constexpr int kBlocks = 2;

MOBE_INLINE __m512 LoadScales(const uint16_t* scales) {
  const __m256i bits =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales));
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

MOBE_INLINE __m512i Inputs(const int8_t* quad) {
  int32_t all = 0;
  __builtin_memcpy(&all, quad, sizeof(all));
  return _mm512_set1_epi32(all);
}

MOBE_INLINE __m512i LoadCodes(const uint8_t* codes) {
  return _mm512_loadu_si512(codes);
}

// Writes the lanes [begin, end) to y.
MOBE_INLINE void StoreLanes(__m512 sums, const LaneRange& lanes, float* y) {
  const auto mask = static_cast<__mmask16>(
      ((1u << (lanes.end - lanes.begin)) - 1) << lanes.begin);
  _mm512_mask_storeu_ps(y - lanes.begin, mask, sums);
}

// The bits of a line that belong to a quad: kBits from kFrom on, moved to kTo.
template <int kBits, int kFrom, int kTo>
MOBE_INLINE __m512i Bits(__m512i line) {
  // Shifts are of 16 bits: what comes from the neighbour is masked.
  if constexpr (kFrom > kTo) line = _mm512_srli_epi16(line, kFrom - kTo);
  if constexpr (kFrom < kTo) line = _mm512_slli_epi16(line, kTo - kFrom);
  return _mm512_and_si512(
      line, _mm512_set1_epi8(static_cast<char>(((1 << kBits) - 1) << kTo)));
}

// A quad of a unit of kBits (tensor/bit_planes.h), a byte for each code, with
// the middle of MiddleOf.
template <int kBits, int kQuadOfUnit>
MOBE_INLINE __m512i UnitCodes(const uint8_t* unit) {
  constexpr BitPlanes planes = BitPlanesOf(kBits);
  constexpr PlaneBits low = LowBits(planes, kQuadOfUnit);
  constexpr int up = UpOf(kBits);
  const __m512i codes =
      Bits<planes.low, low.shift, up>(LoadCodes(unit + low.line * kQuadBytes));
  if constexpr (planes.high == 0) {
    return codes;
  } else {
    constexpr PlaneBits high = HighBits(planes, kQuadOfUnit);
    return _mm512_or_si512(codes,
                           Bits<planes.high, high.shift, planes.low + up>(
                               LoadCodes(unit + high.line * kQuadBytes)));
  }
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

// sums += the quads from kFirst on of a unit, times the inputs.
template <int kBits, int kFirst>
MOBE_INLINE void AddUnit(const uint8_t* unit, const int8_t* high,
                         int64_t to_low, Halves* sums) {
  AddQuad(UnitCodes<kBits, kFirst>(unit), high + kFirst * kQuad, to_low, sums);
  if constexpr (kFirst + 1 < BitPlanesOf(kBits).quads()) {
    AddUnit<kBits, kFirst + 1>(unit, high, to_low, sums);
  }
}

// A group's sums += its products, for one token. kBits of the format.
template <int kBits>
MOBE_INLINE void AddGroup(const uint8_t* codes, const int8_t* high,
                          int64_t to_low, int64_t quads, Halves* sums) {
  if constexpr (kBits == 8) {
    for (int64_t q = 0; q < quads; ++q) {
      AddQuad(LoadCodes(codes + q * kQuadBytes), high + q * kQuad, to_low,
              sums);
    }
  } else {
    constexpr int unit = BitPlanesOf(kBits).quads();
    for (int64_t q = 0; q < quads; q += unit) {
      AddUnit<kBits, 0>(codes + q * kQuadBytes * kBits / 8, high + q * kQuad,
                        to_low, sums);
    }
  }
}

// One token by a block of 16 rows.
template <int kBits>
MOBE_INLINE void MultiplyBlock(const WeightView& w, const PackedSizes& sizes,
                               const RoundedInputs& x, int64_t token,
                               const LaneRange& lanes, float* y) {
  const int64_t group_quads = RowOf(w.format).group / kQuad;
  const int8_t* in = x.high(token);
  const uint8_t* codes =
      static_cast<const uint8_t*>(w.codes) + lanes.block * sizes.code_bytes;
  const uint16_t* scales = BlockScales(w, sizes, lanes.block);
  __m512 sums = _mm512_setzero_ps();
  for (int64_t g = 0; g < sizes.groups; ++g) {
    const int64_t first = g * group_quads;
    const int64_t left = sizes.quads - first;
    const int64_t quads = left < group_quads ? left : group_quads;
    const int64_t bytes = quads * kQuadBytes * kBits / 8;
    for (int64_t ahead = 0; ahead < bytes; ahead += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(codes + kAhead + ahead),
                   _MM_HINT_T1);
    }
    const int64_t at = token * x.groups + g;
    Halves products = {
        _mm512_setzero_si512(),
        _mm512_set1_epi32(x.middle[at] / kCodeMiddle * MiddleOf(kBits))};
    AddGroup<kBits>(codes, in + first * kQuad, x.to_low(), quads, &products);
    codes += bytes;
    const __m512 scale = _mm512_mul_ps(LoadScales(scales + g * kPackedRows),
                                       _mm512_set1_ps(x.scales[at]));
    sums = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(Total(products)), sums);
  }
  StoreLanes(sums, lanes, y + lanes.row);
}

template <int kBits>
MOBE_TARGET void MultiplyOne(const WeightView& w, const PackedSizes& sizes,
                             const RoundedInputs& x, int64_t token, float* y) {
  for (LaneRange next = FirstLanes(w); next.row < w.rows;) {
    MultiplyBlock<kBits>(w, sizes, x, token, next, y);
    next = NextLanes(w, next);
  }
}

// By the bits of the format.
constexpr decltype(&MultiplyOne<8>) kMultiplyOne[] = {
    nullptr,        nullptr,        MultiplyOne<2>,
    MultiplyOne<3>, MultiplyOne<4>, MultiplyOne<5>,
    MultiplyOne<6>, nullptr,        MultiplyOne<8>};

// kT tokens by kB blocks of codes in bytes.
template <int kT, int kB>
MOBE_INLINE void MultiplyTile(const uint8_t* const* codes,
                              const uint16_t* const* scales,
                              const PackedSizes& sizes, int64_t group_quads,
                              const RoundedInputs& x, int64_t token,
                              const LaneRange* lanes, float* y,
                              int64_t y_stride) {
  __m512 sums[kB][kT];
  for (int b = 0; b < kB; ++b) {
    for (int t = 0; t < kT; ++t) sums[b][t] = _mm512_setzero_ps();
  }
  const int8_t* in = x.high(token);
  const int64_t in_stride = x.high(1) - x.high(0);
  for (int64_t g = 0; g < sizes.groups; ++g) {
    const int64_t first = g * group_quads;
    const int64_t left = sizes.quads - first;
    const int64_t quads = left < group_quads ? left : group_quads;
    Halves products[kB][kT];
    for (int t = 0; t < kT; ++t) {
      const __m512i middle =
          _mm512_set1_epi32(x.middle[(token + t) * x.groups + g]);
      for (int b = 0; b < kB; ++b) {
        products[b][t] = {_mm512_setzero_si512(), middle};
      }
    }
    for (int64_t q = first; q < first + quads; ++q) {
      __m512i weights[kB];
      for (int b = 0; b < kB; ++b) {
        weights[b] = LoadCodes(codes[b] + q * kQuadBytes);
      }
      for (int t = 0; t < kT; ++t) {
        const int8_t* inputs = in + t * in_stride + q * kQuad;
        for (int b = 0; b < kB; ++b) {
          AddQuad(weights[b], inputs, x.to_low(), &products[b][t]);
        }
      }
    }
    for (int b = 0; b < kB; ++b) {
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

template <int kB>
MOBE_TARGET void MultiplyBlocks(const uint8_t* const* codes,
                                const uint16_t* const* scales,
                                const PackedSizes& sizes, int64_t group_quads,
                                const RoundedInputs& x, int64_t first,
                                int64_t tokens, const LaneRange* lanes,
                                float* y, int64_t y_stride) {
  int64_t t = 0;
  for (; t + kTokens <= tokens; t += kTokens) {
    MultiplyTile<kTokens, kB>(codes, scales, sizes, group_quads, x, first + t,
                              lanes, y + t * y_stride, y_stride);
  }
  for (; t + 2 <= tokens; t += 2) {
    MultiplyTile<2, kB>(codes, scales, sizes, group_quads, x, first + t, lanes,
                        y + t * y_stride, y_stride);
  }
  for (; t < tokens; ++t) {
    MultiplyTile<1, kB>(codes, scales, sizes, group_quads, x, first + t, lanes,
                        y + t * y_stride, y_stride);
  }
}

}  // namespace

MOBE_TARGET void MultiplyAvx512Vnni(const WeightView& w, const RoundedInputs& x,
                                    int64_t first, int64_t tokens, float* y,
                                    int64_t y_stride) {
  const FormatRow& format = RowOf(w.format);
  const PackedSizes sizes = PackedSizesOf(format, w.cols);
  if (tokens == 1) return kMultiplyOne[format.bits](w, sizes, x, first, y);
  const int64_t group_quads = format.group / kQuad;
  // Codes that have to be unpacked have room for one block in each thread.
  const int together = format.bits == 8 ? kBlocks : 1;
  for (LaneRange next = FirstLanes(w); next.row < w.rows;) {
    LaneRange lanes[kBlocks];
    const uint8_t* codes[kBlocks];
    const uint16_t* scales[kBlocks];
    int count = 0;
    for (; count < together && next.row < w.rows; ++count) {
      lanes[count] = next;
      codes[count] = BlockCodes(w, sizes, next.block);
      scales[count] = BlockScales(w, sizes, next.block);
      next = NextLanes(w, next);
    }
    if (count == kBlocks) {
      MultiplyBlocks<kBlocks>(codes, scales, sizes, group_quads, x, first,
                              tokens, lanes, y, y_stride);
    } else {
      MultiplyBlocks<1>(codes, scales, sizes, group_quads, x, first, tokens,
                        lanes, y, y_stride);
    }
  }
}

}  // namespace mobe

#endif  // __x86_64__
