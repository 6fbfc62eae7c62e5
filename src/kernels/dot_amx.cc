// AMX (Sapphire Rapids and newer): a tile instruction multiplies the codes of
// 16 rows, 64 inputs each, by those inputs of 16 tokens. The layout of packed
// matrices is that of its right operand: quads of a group lie below each other.
//
// Whole tiles of tokens alone; the rest, and single tokens, which are bound by
// memory, are left to AVX-512 VNNI, whose sums these are, to the bit: a group's
// products are integers, and the groups are added in the same order.
#if defined(__x86_64__)

#define MOBE_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512vnni,amx-tile,amx-int8")))
#define MOBE_INLINE                                                       \
  __attribute__((target("avx512f,avx512bw,avx512vnni,amx-tile,amx-int8"), \
                 always_inline)) inline

#include "base/matrix.h"
#include "kernels/amx.h"
#include "kernels/dot_zmm-inl.h"

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

// A block of rows: its codes as bytes, its scales, and which rows they are.
struct Block {
  const uint8_t* codes;
  const uint16_t* scales;
  LaneRange lanes;
};

// to [quads, 16, 4] = the codes of some units of kBits, a byte each.
template <int kBits, int kQuadOfUnit = 0>
MOBE_INLINE void UnpackUnit(const uint8_t* unit, uint8_t* to) {
  _mm512_store_si512(to + kQuadOfUnit * kQuadBytes,
                     CodesOf<kBits, kQuadOfUnit>(unit));
  if constexpr (kQuadOfUnit + 1 < kUnitQuads<kBits>) {
    UnpackUnit<kBits, kQuadOfUnit + 1>(unit, to);
  }
}
template <int kBits>
MOBE_TARGET void Unpack(const uint8_t* packed, int64_t quads, uint8_t* to) {
  for (int64_t q = 0; q < quads; q += kUnitQuads<kBits>) {
    UnpackUnit<kBits>(packed + q * kQuadBytes * kBits / 8, to + q * kQuadBytes);
  }
}
// By the bits of the format.
constexpr decltype(&Unpack<2>) kUnpack[] = {
    nullptr, nullptr, Unpack<2>, Unpack<3>, Unpack<4>, Unpack<5>, Unpack<6>};

// Sums of a group: of each block, with high and low halves.
struct alignas(64) GroupSums {
  int32_t of[kBlocks][2][kTileTokens][kPackedRows];
};

// 16 tokens by kB blocks of rows, one group.
template <int kB>
MOBE_INLINE void MultiplyGroup(const Block* blocks, const int8_t* in,
                               int64_t stride, int64_t to_low,
                               int64_t first_quad, GroupSums* sums) {
  const int64_t at = first_quad * kQuadBytes;
  _tile_loadd(4, in + first_quad * kQuad, stride);
  _tile_loadd(5, in + to_low + first_quad * kQuad, stride);
  _tile_zero(0);
  _tile_zero(1);
  _tile_loadd(6, blocks[0].codes + at, kQuadBytes);
  _tile_dpbsud(0, 4, 6);
  _tile_dpbsud(1, 5, 6);
  if constexpr (kB > 1) {
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(7, blocks[1].codes + at, kQuadBytes);
    _tile_dpbsud(2, 4, 7);
    _tile_dpbsud(3, 5, 7);
  }
  _tile_stored(0, sums->of[0][0], kPackedRows * 4);
  _tile_stored(1, sums->of[0][1], kPackedRows * 4);
  if constexpr (kB > 1) {
    _tile_stored(2, sums->of[1][0], kPackedRows * 4);
    _tile_stored(3, sums->of[1][1], kPackedRows * 4);
  }
}

// The sums of a group, times its scales, are added to those of the others.
template <int kB>
MOBE_INLINE void AddGroup(const Block* blocks, const GroupSums& group,
                          int middle, const RoundedInputs& x, int64_t token,
                          int64_t g, __m512 (*sums)[kTileTokens]) {
  __m512 row_scales[kB];
  for (int b = 0; b < kB; ++b) {
    row_scales[b] = LoadScales(blocks[b].scales + g * kPackedRows);
  }
  for (int64_t t = 0; t < kTileTokens; ++t) {
    const int64_t at = (token + t) * x.groups + g;
    const __m512i offset =
        _mm512_set1_epi32(x.middle[at] / kCodeMiddle * middle);
    const __m512 x_scale = _mm512_set1_ps(x.scales[at]);
    for (int b = 0; b < kB; ++b) {
      const __m512i high = _mm512_load_si512(group.of[b][0][t]);
      const __m512i low = _mm512_load_si512(group.of[b][1][t]);
      const __m512i products = _mm512_add_epi32(
          _mm512_add_epi32(_mm512_slli_epi32(high, 7), low), offset);
      sums[b][t] = _mm512_fmadd_ps(_mm512_mul_ps(row_scales[b], x_scale),
                                   _mm512_cvtepi32_ps(products), sums[b][t]);
    }
  }
}

// 16 tokens by kB blocks of rows. A group is multiplied while the one before it
// is added.
template <int kB>
MOBE_TARGET void MultiplyTiles(const Block* blocks, const PackedSizes& sizes,
                               int64_t group_quads, int middle,
                               const RoundedInputs& x, int64_t token, float* y,
                               int64_t y_stride) {
  GroupSums groups[2];
  __m512 sums[kB][kTileTokens];
  for (auto& of_block : sums) {
    for (__m512& sum : of_block) sum = _mm512_setzero_ps();
  }
  const int64_t stride = x.high(1) - x.high(0);
  const int8_t* in = x.high(token);
  MultiplyGroup<kB>(blocks, in, stride, x.to_low(), 0, &groups[0]);
  for (int64_t g = 0; g < sizes.groups; ++g) {
    if (g + 1 < sizes.groups) {
      MultiplyGroup<kB>(blocks, in, stride, x.to_low(), (g + 1) * group_quads,
                        &groups[(g + 1) % 2]);
    }
    AddGroup<kB>(blocks, groups[g % 2], middle, x, token, g, sums);
  }
  for (int b = 0; b < kB; ++b) {
    for (int64_t t = 0; t < kTileTokens; ++t) {
      StoreLanes(sums[b][t], blocks[b].lanes,
                 y + t * y_stride + blocks[b].lanes.row);
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
    thread_local Buffer<uint8_t> unpacked;
    const int64_t bytes = sizes.quads * kQuadBytes;
    if (format.bits < 8) unpacked.Resize(kBlocks * bytes);
    const TileConfig config = ConfigOf(group_quads);
    LoadTiles(config);
    for (LaneRange next = FirstLanes(w); next.row < w.rows;) {
      KeepOrder();
      Block blocks[kBlocks];
      int count = 0;
      for (; count < kBlocks && next.row < w.rows; ++count) {
        const auto* codes = static_cast<const uint8_t*>(w.codes) +
                            next.block * sizes.code_bytes;
        if (format.bits < 8) {
          uint8_t* const to = unpacked.data() + count * bytes;
          kUnpack[format.bits](codes, sizes.quads, to);
          codes = to;
        }
        blocks[count] = {codes, BlockScales(w, sizes, next.block), next};
        next = NextLanes(w, next);
      }
      KeepOrder();
      const auto multiply =
          count == kBlocks ? MultiplyTiles<kBlocks> : MultiplyTiles<1>;
      for (int64_t t = 0; t < tiled; t += kTileTokens) {
        multiply(blocks, sizes, group_quads, MiddleOf(format.bits), x,
                 first + t, y + t * y_stride, y_stride);
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
