// Packed codes and scales in vectors of 16 rows, for the sets that have them. A
// file that includes this defines MOBE_INLINE, for AVX-512.
//
// No include guard: each file compiles it for its own instructions.
#include <immintrin.h>

#include "kernels/dot_internal.h"

namespace mobe {
// NOLINTNEXTLINE(google-build-namespaces): each file has its own
namespace {

MOBE_INLINE __m512 LoadScales(const uint16_t* scales) {
  const __m256i bits =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales));
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
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
  constexpr BitPlanes kPlanes = BitPlanesOf(kBits);
  constexpr PlaneBits kLow = LowBits(kPlanes, kQuadOfUnit);
  constexpr int kUp = UpOf(kBits);
  const __m512i codes = Bits<kPlanes.low, kLow.shift, kUp>(
      LoadCodes(unit + kLow.line * kQuadBytes));
  if constexpr (kPlanes.high == 0) {
    return codes;
  } else {
    constexpr PlaneBits kHigh = HighBits(kPlanes, kQuadOfUnit);
    return _mm512_or_si512(codes,
                           Bits<kPlanes.high, kHigh.shift, kPlanes.low + kUp>(
                               LoadCodes(unit + kHigh.line * kQuadBytes)));
  }
}

// Quads that lie together in a format.
template <int kBits>
constexpr int kUnitQuads = BitPlanesOf(kBits).quads();
template <>
inline constexpr int kUnitQuads<8> = 1;

template <int kBits, int kQuadOfUnit>
MOBE_INLINE __m512i CodesOf(const uint8_t* unit) {
  if constexpr (kBits == 8) {
    return LoadCodes(unit);
  } else {
    return UnitCodes<kBits, kQuadOfUnit>(unit);
  }
}

}  // namespace
}  // namespace mobe
