// Attention to a context in tiles, with a softmax whose scores come tile by
// tile: there are never more than a tile's (FlashAttention, Dao et al. 2022,
// arXiv 2205.14135, algorithm 1, without its backward pass).
#pragma once

#include <cstdint>
#include <span>

#include "base/matrix.h"
#include "kernels/kernels.h"

namespace mobe {

// Tokens of a tile, at most.
inline constexpr int64_t kTileTokens = 64;

// Vectors of a tile's tokens, as stored.
struct StoredTile {
  TileView numbers;
  // What each token's are to be multiplied by; null: nothing.
  const float* scales = nullptr;
};

// Where the attention of queries to a part of the context stands: their sums
// over keys of exp(score - max) value, and without the value.
struct AttentionSums {
  int64_t rows = 0;          // queries
  int64_t cols = 0;          // of a value
  float* context = nullptr;  // [rows, cols]
  float* max = nullptr;      // [rows]
  float* sum = nullptr;      // [rows]

  // In a memory of Size(rows, cols) floats.
  static int64_t Size(int64_t rows, int64_t cols) { return rows * (cols + 2); }
  static AttentionSums At(float* memory, int64_t rows, int64_t cols);
  // Those of the rows [first, first + count).
  AttentionSums Rows(int64_t first, int64_t count) const;
};

// Makes sums those over no key.
void StartSums(const AttentionSums& sums);

// A part of the products of queries with keys, which are the sum of all parts.
struct ScorePart {
  const float* query = nullptr;  // [rows, width], rows `stride` apart; scaled
  int64_t stride = 0;
  int64_t width = 0;
  TileView keys;  // [width, kTileTokens]
};

// A tile of up to kTileTokens keys.
struct KeyTile {
  int64_t first = 0;  // its place in the context
  int64_t count = 0;
  std::span<const ScorePart> parts;
  const float* key_scales = nullptr;  // as of StoredTile
  StoredTile values;                  // [count, cols]
};

// Adds a tile to the sums of queries, of which row r sees the first seen[r]
// keys of the context. Scores of keys behind count are computed, too, of
// whatever lies there, and not used.
void AddTile(const KeyTile& tile, const int64_t* seen,
             const AttentionSums& sums);

// Makes `to` the sums over what either is over.
void MergeSums(const AttentionSums& from, const AttentionSums& to);

// context of each row /= sum: the attention.
void FinishSums(const AttentionSums& sums);

// Keys of a piece of a context of `keys`. Pieces are attended to in parallel
// and then merged in order (Flash-Decoding), in decode, where there are few
// queries. A multiple of kTileTokens. It depends on nothing else, so results do
// not.
int64_t PieceKeys(int64_t keys);

}  // namespace mobe
