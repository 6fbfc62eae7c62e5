#include "model/tile_attention.h"

#include <algorithm>
#include <cmath>

namespace mobe {
namespace {

// A piece takes some ten microseconds or more, and there are not so many of
// them that their sums take much memory.
constexpr int64_t kLeastPiece = 256;
constexpr int64_t kMostPieces = 32;

// Keys whose scores are computed: as many as vectors hold that have no rest, on
// every instruction set.
constexpr int64_t kScoreLanes = 16;

int64_t RoundUp(int64_t count, int64_t step) {
  return (count + step - 1) / step * step;
}

// x *= factor, but for 1: most tiles don't change the maximum.
void Scale(float factor, int64_t count, float* x) {
  if (factor == 1) return;
  for (int64_t j = 0; j < count; ++j) x[j] *= factor;
}

// Keys of the tile that a query sees.
int64_t Visible(const KeyTile& tile, int64_t seen) {
  return std::clamp<int64_t>(seen - tile.first, 0, tile.count);
}

}  // namespace

AttentionSums AttentionSums::At(float* memory, int64_t rows, int64_t cols) {
  float* max = memory + rows * cols;
  return {rows, cols, memory, max, max + rows};
}

AttentionSums AttentionSums::Rows(int64_t first, int64_t count) const {
  return {count, cols, context + first * cols, max + first, sum + first};
}

void StartSums(const AttentionSums& sums) {
  std::fill_n(sums.context, sums.rows * sums.cols, 0.0f);
  std::fill_n(sums.max, sums.rows, kNoScore);
  std::fill_n(sums.sum, sums.rows, 0.0f);
}

void AddTile(const KeyTile& tile, const int64_t* seen,
             const AttentionSums& sums) {
  const KernelSet& k = Kernels();
  int64_t visible = 0;  // to any row
  for (int64_t r = 0; r < sums.rows; ++r) {
    visible = std::max(visible, Visible(tile, seen[r]));
  }
  if (visible == 0) return;
  thread_local Buffer<float> scores;
  scores.Resize(sums.rows * kTileTokens);
  std::fill(scores.begin(), scores.end(), 0.0f);
  for (const ScorePart& part : tile.parts) {
    k.add_products(sums.rows, part.width, RoundUp(visible, kScoreLanes),
                   part.query, part.stride, part.keys, scores.data(),
                   kTileTokens);
  }
  for (int64_t r = 0; r < sums.rows; ++r) {
    float* row = scores.data() + r * kTileTokens;
    const int64_t count = Visible(tile, seen[r]);
    std::fill(row + count, row + visible, 0.0f);
    if (count == 0) continue;
    if (tile.key_scales != nullptr) {
      k.multiply(row, tile.key_scales, count, row);
    }
    Scale(k.softmax_step(row, count, sums.max + r, sums.sum + r), sums.cols,
          sums.context + r * sums.cols);
    if (tile.values.scales != nullptr) {
      k.multiply(row, tile.values.scales, count, row);
    }
  }
  k.add_products(sums.rows, visible, sums.cols, scores.data(), kTileTokens,
                 tile.values.numbers, sums.context, sums.cols);
}

void MergeSums(const AttentionSums& from, const AttentionSums& to) {
  for (int64_t r = 0; r < to.rows; ++r) {
    const float max = std::max(to.max[r], from.max[r]);
    const float a = std::exp(to.max[r] - max);
    const float b = std::exp(from.max[r] - max);
    to.max[r] = max;
    to.sum[r] = to.sum[r] * a + from.sum[r] * b;
    float* x = to.context + r * to.cols;
    const float* y = from.context + r * to.cols;
    for (int64_t j = 0; j < to.cols; ++j) x[j] = x[j] * a + y[j] * b;
  }
}

void FinishSums(const AttentionSums& sums) {
  for (int64_t r = 0; r < sums.rows; ++r) {
    Scale(1.0f / sums.sum[r], sums.cols, sums.context + r * sums.cols);
  }
}

int64_t PieceKeys(int64_t keys) {
  const int64_t equal = (keys + kMostPieces - 1) / kMostPieces;
  return std::max(kLeastPiece, RoundUp(equal, kTileTokens));
}

}  // namespace mobe
