// AMX (Sapphire Rapids and newer): an instruction multiplies 16 rows, 32 inputs
// each, by those inputs of up to 16 tokens. Weights are its left operand, read
// in place, and packed tokens its right one; sums come out by rows, and are
// transposed on their way to y.
//
// A step's sums of even and of odd inputs are added to what was there before:
// so a token's sums depend on the steps, which are always of 32 inputs, and not
// on the shape of tiles.
//
// Asking ahead for rows, as token_lanes_avx512.cc does, made decoding slower
// (20 tokens/s instead of 23, Emerald Rapids).
#if defined(__x86_64__)

#include <algorithm>

#include "kernels/amx.h"
#include "kernels/token_lanes_internal.h"

#define MOBE_TARGET \
  __attribute__((target("avx512f,avx512bw,amx-tile,amx-bf16")))
#define MOBE_INLINE                                            \
  __attribute__((target("avx512f,avx512bw,amx-tile,amx-bf16"), \
                 always_inline)) inline

namespace mobe {
namespace {

constexpr int64_t kStepInputs = 32;
// Tiles of rows, and of tokens, that meet each other: two of each, as many as
// there are registers for.
constexpr int64_t kTogether = 2;

// Tiles 0 to 3 hold sums [rows, tokens], 4 and 5 weights, 6 and 7 tokens.
TileConfig LaneTiles(int64_t lanes) {
  TileConfig config;
  const int64_t bytes = 2 * lanes * static_cast<int64_t>(sizeof(BFloat16));
  for (int i = 0; i < 4; ++i) config.Set(i, kTileRows, bytes);
  for (int i = 4; i < 6; ++i) config.Set(i, kTileRows, kTileRowBytes);
  for (int i = 6; i < 8; ++i) config.Set(i, kTileRows, bytes);
  return config;
}

// Where a tile of weights lies.
struct WeightTile {
  const BFloat16* data;
  int64_t stride;  // bytes between rows
};

// 16 rows of weights, step by step. Those past the last are zero, and so are
// inputs past the last.
struct TileRows {
  const BFloat16* first;
  int64_t rows;  // that there are
  int64_t inputs;
  alignas(64) BFloat16 copy[kTileRows * kStepInputs];

  WeightTile At(int64_t c) {
    if (rows == kTileRows && c + kStepInputs <= inputs) {
      return {first + c, inputs * static_cast<int64_t>(sizeof(BFloat16))};
    }
    KeepOrder();
    std::fill_n(copy, kTileRows * kStepInputs, BFloat16{0});
    const int64_t count = std::min(kStepInputs, inputs - c);
    for (int64_t r = 0; r < rows; ++r) {
      std::copy_n(first + r * inputs + c, count, copy + r * kStepInputs);
    }
    KeepOrder();
    return {copy, kTileRowBytes};
  }
};

// y [tokens, rows] = the transpose of sums [kTileRows, lanes].
MOBE_INLINE void StoreSums(const float* sums, int64_t lanes, int64_t tokens,
                           int64_t rows, float* y, int64_t y_stride) {
  const auto present = static_cast<__mmask16>((1u << lanes) - 1);
  __m512i v[16];
  for (int64_t r = 0; r < 16; ++r) {
    v[r] = _mm512_maskz_loadu_epi32(present, sums + r * lanes);
  }
  TransposeLanes(v);
  const auto mask = static_cast<__mmask16>((1u << rows) - 1);
  for (int64_t t = 0; t < tokens; ++t) {
    _mm512_mask_storeu_epi32(y + t * y_stride, mask, v[t]);
  }
}

// Up to kTogether tiles of rows, from row `first` on, by up to as many blocks
// of tokens.
template <bool kTwoRows, bool kTwoBlocks>
MOBE_TARGET void MultiplyLaneTiles(const BFloat16* w, int64_t rows,
                                   int64_t first, const TokenLanes& x,
                                   int64_t block, float* y, int64_t y_stride) {
  const int64_t second = kTwoRows ? first + kTileRows : first;
  TileRows w0{
      w + first * x.inputs, std::min(kTileRows, rows - first), x.inputs, {}};
  TileRows w1{
      w + second * x.inputs, std::min(kTileRows, rows - second), x.inputs, {}};
  const BFloat16* const x0 = x.Block(block);
  const BFloat16* const x1 = kTwoBlocks ? x.Block(block + 1) : x0;
  const int64_t lanes = x.lanes();
  const int64_t x_stride = 2 * lanes * static_cast<int64_t>(sizeof(BFloat16));
  // The compiler's names of tiles are macros that want the figures.
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t c = 0; c < x.inputs; c += kStepInputs) {
    const WeightTile t0 = w0.At(c);
    _tile_loadd(4, t0.data, t0.stride);
    _tile_loadd(6, x0 + c * lanes, x_stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kTwoBlocks) {
      _tile_loadd(7, x1 + c * lanes, x_stride);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kTwoRows) {
      const WeightTile t1 = w1.At(c);
      _tile_loadd(5, t1.data, t1.stride);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kTwoBlocks) _tile_dpbf16ps(3, 5, 7);
    }
  }
  alignas(64) float sums[4][kTileRows * kLaneTokens];
  const int64_t stride = lanes * static_cast<int64_t>(sizeof(float));
  _tile_stored(0, sums[0], stride);
  _tile_stored(1, sums[1], stride);
  _tile_stored(2, sums[2], stride);
  _tile_stored(3, sums[3], stride);
  for (int64_t b = 0; b < (kTwoBlocks ? 2 : 1); ++b) {
    const int64_t token = (block + b) * kLaneTokens;
    const int64_t tokens = std::min(kLaneTokens, x.tokens - token);
    float* const to = y + token * y_stride;
    StoreSums(sums[b], lanes, tokens, w0.rows, to + first, y_stride);
    if constexpr (kTwoRows) {
      StoreSums(sums[2 + b], lanes, tokens, w1.rows, to + second, y_stride);
    }
  }
}

}  // namespace

MOBE_TARGET void MultiplyLanesAmx(const BFloat16* w, int64_t rows,
                                  const TokenLanes& x, float* y,
                                  int64_t y_stride) {
  const TileConfig config = LaneTiles(x.lanes());
  LoadTiles(config);
  constexpr int64_t kRows = kTogether * kTileRows;
  for (int64_t block = 0; block < x.blocks(); block += kTogether) {
    const bool two_blocks = block + 1 < x.blocks();
    for (int64_t r = 0; r < rows; r += kRows) {
      const bool two_rows = r + kTileRows < rows;
      const auto multiply = two_blocks ? two_rows
                                             ? MultiplyLaneTiles<true, true>
                                             : MultiplyLaneTiles<false, true>
                            : two_rows ? MultiplyLaneTiles<true, false>
                                       : MultiplyLaneTiles<false, false>;
      multiply(w, rows, r, x, block, y, y_stride);
    }
  }
  // Or every switch of threads would save them.
  _tile_release();
}

}  // namespace mobe

#endif  // __x86_64__
