// Products by vectors of eight rows, for the sets that differ in one step: a
// file that includes this defines MOBE_TARGET, MOBE_INLINE, MOBE_MULTIPLY (the
// function's name) and, in an unnamed namespace,
//
//   __m256i StartQuads(int32_t middle, int bits)
//       where a group's sums with low halves start; with high ones at zero
//   __m256i AddQuad(__m256i sums, __m256i codes, const QuadInputs& inputs,
//                   int bits)
//       sums += codes, less their middle, times a quad of inputs. Codes are
//       bytes with the middle of MiddleOf
//   QuadInputs LoadInputs(const int8_t* quad)
//
// No include guard: each file compiles it for its own instructions.
#include <immintrin.h>

#include "kernels/dot_internal.h"

// NOLINTBEGIN(google-build-namespaces,misc-definitions-in-headers): as above

namespace mobe {
namespace {

MOBE_INLINE __m256 LoadScales(const uint16_t* scales) {
  const __m128i bits =
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales));
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

MOBE_INLINE __m256i LoadCodes(const uint8_t* codes) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
}

// The bits of half a line that belong to a quad: kBits from kFrom on, moved to
// kTo.
template <int kBits, int kFrom, int kTo>
MOBE_INLINE __m256i Bits(__m256i line) {
  // Shifts are of 16 bits: what comes from the neighbour is masked.
  if constexpr (kFrom > kTo) line = _mm256_srli_epi16(line, kFrom - kTo);
  if constexpr (kFrom < kTo) line = _mm256_slli_epi16(line, kTo - kFrom);
  return _mm256_and_si256(
      line, _mm256_set1_epi8(static_cast<char>(((1 << kBits) - 1) << kTo)));
}

// Eight rows of a quad of a unit of kBits (tensor/bit_planes.h), a byte for
// each code; of 8 bits a quad is a unit.
template <int kBits, int kQuadOfUnit>
MOBE_INLINE __m256i UnitCodes(const uint8_t* unit) {
  if constexpr (kBits == 8) {
    return LoadCodes(unit);
  } else {
    constexpr BitPlanes kPlanes = BitPlanesOf(kBits);
    constexpr PlaneBits kLow = LowBits(kPlanes, kQuadOfUnit);
    constexpr int kUp = UpOf(kBits);
    __m256i codes = Bits<kPlanes.low, kLow.shift, kUp>(
        LoadCodes(unit + kLow.line * kQuadBytes));
    if constexpr (kPlanes.high > 0) {
      constexpr PlaneBits kHigh = HighBits(kPlanes, kQuadOfUnit);
      codes = _mm256_or_si256(
          codes, Bits<kPlanes.high, kHigh.shift, kPlanes.low + kUp>(
                     LoadCodes(unit + kHigh.line * kQuadBytes)));
    }
    return codes;
  }
}

constexpr int UnitQuads(int bits) {
  return bits == 8 ? 1 : BitPlanesOf(bits).quads();
}

// products[v] += the quads from kFirst on of a unit, of 16 rows, times those of
// kV vectors of inputs: high and low halves of tokens.
template <int kBits, int kV, int kFirst>
MOBE_INLINE void AddUnit(const uint8_t* unit, const int8_t* in,
                         int64_t in_stride, __m256i (*products)[2]) {
  const __m256i upper = UnitCodes<kBits, kFirst>(unit);
  const __m256i lower = UnitCodes<kBits, kFirst>(unit + kQuadBytes / 2);
  for (int v = 0; v < kV; ++v) {
    const QuadInputs inputs = LoadInputs(in + kFirst * kQuad + v * in_stride);
    products[v][0] = AddQuad(products[v][0], upper, inputs, kBits);
    products[v][1] = AddQuad(products[v][1], lower, inputs, kBits);
  }
  if constexpr (kFirst + 1 < UnitQuads(kBits)) {
    AddUnit<kBits, kV, kFirst + 1>(unit, in, in_stride, products);
  }
}

// kT tokens by the 16 rows of a block, whose codes are packed in kBits.
template <int kBits, int kT>
MOBE_INLINE void MultiplyTile(const uint8_t* codes, const uint16_t* scales,
                              const PackedSizes& sizes, int64_t group_quads,
                              const RoundedInputs& x, int64_t token,
                              const LaneRange& lanes, float* y,
                              int64_t y_stride) {
  const int64_t stride = x.to_low();
  const int8_t* in = x.high(token);
  __m256 sums[kT][2];
  for (auto& sum : sums) sum[0] = sum[1] = _mm256_setzero_ps();
  for (int64_t g = 0; g < sizes.groups; ++g) {
    const int64_t first = g * group_quads;
    const int64_t left = sizes.quads - first;
    const int64_t end = first + (left < group_quads ? left : group_quads);
    __m256i products[2 * kT][2];
    for (int t = 0; t < kT; ++t) {
      products[2 * t][0] = products[2 * t][1] = _mm256_setzero_si256();
      products[2 * t + 1][0] = products[2 * t + 1][1] =
          StartQuads(x.middle[(token + t) * x.groups + g], kBits);
    }
    for (int64_t q = first; q < end; q += UnitQuads(kBits)) {
      AddUnit<kBits, 2 * kT, 0>(codes + q * kQuadBytes * kBits / 8,
                                in + q * kQuad, stride, products);
    }
    const __m256 row_scales[2] = {LoadScales(scales + g * kPackedRows),
                                  LoadScales(scales + g * kPackedRows + 8)};
    for (int t = 0; t < kT; ++t) {
      const __m256 scale = _mm256_set1_ps(x.scales[(token + t) * x.groups + g]);
      for (int half = 0; half < 2; ++half) {
        const __m256i total =
            _mm256_add_epi32(_mm256_slli_epi32(products[2 * t][half], 7),
                             products[2 * t + 1][half]);
        sums[t][half] =
            _mm256_fmadd_ps(_mm256_mul_ps(row_scales[half], scale),
                            _mm256_cvtepi32_ps(total), sums[t][half]);
      }
    }
  }
  for (int t = 0; t < kT; ++t) {
    float all[kPackedRows];
    _mm256_storeu_ps(all, sums[t][0]);
    _mm256_storeu_ps(all + 8, sums[t][1]);
    __builtin_memcpy(y + t * y_stride + lanes.row, all + lanes.begin,
                     static_cast<size_t>(lanes.end - lanes.begin) * 4);
  }
}

// One token reads the codes as they are packed; of several each would unpack
// them again.
template <int kBits>
MOBE_TARGET void MultiplyOne(const WeightView& w, const PackedSizes& sizes,
                             const RoundedInputs& x, int64_t token, float* y) {
  const int64_t group_quads = RowOf(w.format).group / kQuad;
  for (LaneRange lanes = FirstLanes(w); lanes.row < w.rows;
       lanes = NextLanes(w, lanes)) {
    const auto* codes =
        static_cast<const uint8_t*>(w.codes) + lanes.block * sizes.code_bytes;
    MultiplyTile<kBits, 1>(codes, BlockScales(w, sizes, lanes.block), sizes,
                           group_quads, x, token, lanes, y, 0);
  }
}

// By the bits of the format.
constexpr decltype(&MultiplyOne<8>) kMultiplyOne[] = {
    nullptr,        nullptr,        MultiplyOne<2>,
    MultiplyOne<3>, MultiplyOne<4>, MultiplyOne<5>,
    MultiplyOne<6>, nullptr,        MultiplyOne<8>};

}  // namespace

MOBE_TARGET void MOBE_MULTIPLY(const WeightView& w, const RoundedInputs& x,
                               int64_t first, int64_t tokens, float* y,
                               int64_t y_stride) {
  constexpr int kTokens = 2;
  const FormatRow& format = RowOf(w.format);
  const PackedSizes sizes = PackedSizesOf(format, w.cols);
  if (tokens == 1) return kMultiplyOne[format.bits](w, sizes, x, first, y);
  const int64_t group_quads = format.group / kQuad;
  for (LaneRange lanes = FirstLanes(w); lanes.row < w.rows;
       lanes = NextLanes(w, lanes)) {
    const uint8_t* codes = BlockCodes(w, sizes, lanes.block);
    const uint16_t* scales = BlockScales(w, sizes, lanes.block);
    int64_t t = 0;
    for (; t + kTokens <= tokens; t += kTokens) {
      MultiplyTile<8, kTokens>(codes, scales, sizes, group_quads, x, first + t,
                               lanes, y + t * y_stride, y_stride);
    }
    for (; t < tokens; ++t) {
      MultiplyTile<8, 1>(codes, scales, sizes, group_quads, x, first + t, lanes,
                         y + t * y_stride, y_stride);
    }
  }
}

}  // namespace mobe

// NOLINTEND(google-build-namespaces,misc-definitions-in-headers)
