// AMX (Sapphire Rapids and newer): a tile instruction multiplies the codes of
// 16 rows, 64 inputs each, by those inputs of 16 tokens. The layout of packed
// matrices is that of its right operand: quads of a group lie below each other.
//
// Whole tiles of tokens alone; the rest, and single tokens, which are bound by
// memory, are left to AVX-512 VNNI, whose sums these are, to the bit: a group's
// products are integers, and the groups are added in the same order.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/amx.h"
#include "kernels/dot_internal.h"

#define MOBE_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512vnni,amx-tile,amx-int8")))
#define MOBE_INLINE                                                       \
  __attribute__((target("avx512f,avx512bw,avx512vnni,amx-tile,amx-int8"), \
                 always_inline)) inline

namespace mobe {
namespace {

constexpr int64_t kTileTokens = 16;
// Tiles of tokens that a tile of codes meets: two, as many as there are tile
// registers for with two blocks of rows.
constexpr int kBlocks = 2;

// Tiles 0 to 3 hold sums [tokens, rows] with the high and low halves of inputs
// of each block, 4 and 5 these, 6 and 7 codes.
TileConfig ConfigOf(int64_t group_quads) {
  TileConfig config;
  for (int i = 0; i < 4; ++i) config.Set(i, kTileTokens, kPackedRows * 4);
  for (int i = 4; i < 6; ++i) config.Set(i, kTileTokens, group_quads * kQuad);
  for (int i = 6; i < 8; ++i) config.Set(i, group_quads, kQuadBytes);
  return config;
}

MOBE_INLINE __m512 LoadScales(const uint16_t* scales) {
  const __m256i bits =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales));
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

MOBE_INLINE void StoreLanes(__m512 sums, const LaneRange& lanes, float* y) {
  const auto mask = static_cast<__mmask16>(
      ((1u << (lanes.end - lanes.begin)) - 1) << lanes.begin);
  _mm512_mask_storeu_ps(y - lanes.begin, mask, sums);
}

// The sums of a group, times its scales, are added to those of the others.
MOBE_INLINE void AddGroup(const int32_t (*high)[kPackedRows],
                          const int32_t (*low)[kPackedRows],
                          const uint16_t* scales, const RoundedInputs& x,
                          int64_t token, int64_t g, __m512* sums) {
  const __m512 row_scale = LoadScales(scales + g * kPackedRows);
  for (int64_t t = 0; t < kTileTokens; ++t) {
    const int64_t at = (token + t) * x.groups + g;
    const __m512i products =
        _mm512_add_epi32(_mm512_slli_epi32(_mm512_load_si512(high[t]), 7),
                         _mm512_load_si512(low[t]));
    const __m512i all =
        _mm512_add_epi32(products, _mm512_set1_epi32(x.middle[at]));
    const __m512 scale = _mm512_mul_ps(row_scale, _mm512_set1_ps(x.scales[at]));
    sums[t] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(all), sums[t]);
  }
}

// 16 tokens by up to two blocks of rows.
MOBE_TARGET void MultiplyTiles(const uint8_t* const* codes,
                               const uint16_t* const* scales, int count,
                               const PackedSizes& sizes, int64_t group_quads,
                               const RoundedInputs& x, int64_t token,
                               const LaneRange* lanes, float* y,
                               int64_t y_stride) {
  alignas(64) int32_t products[kBlocks][2][kTileTokens][kPackedRows];
  __m512 sums[kBlocks][kTileTokens];
  for (auto& of_block : sums) {
    for (__m512& sum : of_block) sum = _mm512_setzero_ps();
  }
  const int64_t stride = x.high(1) - x.high(0);
  const int8_t* in = x.high(token);
  for (int64_t g = 0; g < sizes.groups; ++g) {
    const int64_t first = g * group_quads;
    _tile_loadd(4, in + first * kQuad, stride);
    _tile_loadd(5, in + x.to_low() + first * kQuad, stride);
    _tile_zero(0);
    _tile_zero(1);
    _tile_loadd(6, codes[0] + first * kQuadBytes, kQuadBytes);
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 5, 6);
    if (count > 1) {
      _tile_zero(2);
      _tile_zero(3);
      _tile_loadd(7, codes[1] + first * kQuadBytes, kQuadBytes);
      _tile_dpbsud(2, 4, 7);
      _tile_dpbsud(3, 5, 7);
      _tile_stored(2, products[1][0], kPackedRows * 4);
      _tile_stored(3, products[1][1], kPackedRows * 4);
    }
    _tile_stored(0, products[0][0], kPackedRows * 4);
    _tile_stored(1, products[0][1], kPackedRows * 4);
    for (int b = 0; b < count; ++b) {
      AddGroup(products[b][0], products[b][1], scales[b], x, token, g, sums[b]);
    }
  }
  for (int b = 0; b < count; ++b) {
    for (int64_t t = 0; t < kTileTokens; ++t) {
      StoreLanes(sums[b][t], lanes[b], y + t * y_stride + lanes[b].row);
    }
  }
}

}  // namespace

MOBE_TARGET void MultiplyAmx(const WeightView& w, const RoundedInputs& x,
                             int64_t first, int64_t tokens, float* y,
                             int64_t y_stride) {
  const FormatRow& format = RowOf(w.format);
  const PackedSizes sizes = PackedSizesOf(format, w.cols);
  const int64_t group_quads = format.group / kQuad;
  // Half groups, of odd widths, would need tiles of other shapes.
  const bool whole = sizes.quads % group_quads == 0;
  const int64_t tiled = whole ? tokens / kTileTokens * kTileTokens : 0;
  if (tiled > 0) {
    const TileConfig config = ConfigOf(group_quads);
    LoadTiles(config);
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
      for (int64_t t = 0; t < tiled; t += kTileTokens) {
        MultiplyTiles(codes, scales, count, sizes, group_quads, x, first + t,
                      lanes, y + t * y_stride, y_stride);
      }
    }
    // Or every switch of threads would save them.
    _tile_release();
  }
  if (tiled < tokens) {
    MultiplyAvx512Vnni(w, x, first + tiled, tokens - tiled,
                       y + tiled * y_stride, y_stride);
  }
}

}  // namespace mobe

#endif  // __x86_64__
