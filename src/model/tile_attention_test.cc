#include "model/tile_attention.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <random>
#include <vector>

#include "model/cache_format.h"

namespace mobe {
namespace {

constexpr int64_t kCols = 20;  // of a value

std::vector<float> RandomValues(int64_t count, float scale = 1) {
  static std::mt19937 random(3);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

// Keys of some widths, which queries are the sum over, and values, stored in a
// format; `rows` queries.
class Context {
 public:
  Context(const CacheFormat& format, std::vector<int64_t> widths, int64_t keys,
          int64_t rows)
      : widths_(std::move(widths)), keys_(keys), rows_(rows) {
    const int64_t size = DTypeSize(format.dtype);
    for (const int64_t width : widths_) {
      queries_.push_back(RandomValues(rows * width));
    }
    for (int64_t first = 0; first < keys; first += kTileTokens) {
      Tile& tile = tiles_.emplace_back();
      tile.keys.resize(widths_.size());
      for (size_t p = 0; p < widths_.size(); ++p) {
        tile.keys[p].resize(
            static_cast<size_t>(widths_[p] * kTileTokens * size));
      }
      tile.values.resize(static_cast<size_t>(kCols * kTileTokens * size));
      for (int64_t t = 0; t < kTileTokens; ++t) {
        // One scale for all parts of a token.
        int64_t width = 0;
        for (const int64_t w : widths_) width += w;
        std::vector<char> stored(static_cast<size_t>(width * size));
        const float scale =
            format.store(RandomValues(width).data(), width, stored.data());
        tile.key_scales.push_back(format.scaled ? scale : 1);
        std::vector<float> loaded(static_cast<size_t>(width));
        format.load(stored.data(), width, loaded.data());
        const char* from = stored.data();
        for (size_t p = 0; p < widths_.size(); ++p) {
          for (int64_t i = 0; i < widths_[p]; ++i, from += size) {
            std::copy_n(from, size,
                        tile.keys[p].data() + (i * kTileTokens + t) * size);
          }
        }
        for (float& key : loaded) key *= tile.key_scales.back();
        exact_keys_.push_back(loaded);

        char* row = tile.values.data() + t * kCols * size;
        const float value_scale =
            format.store(RandomValues(kCols).data(), kCols, row);
        tile.value_scales.push_back(format.scaled ? value_scale : 1);
        std::vector<float> value(kCols);
        format.load(row, kCols, value.data());
        for (float& v : value) v *= tile.value_scales.back();
        exact_values_.push_back(value);
      }
    }
    dtype_ = format.dtype;
    scaled_ = format.scaled;
  }

  // The keys [begin, end), begin at a tile's start.
  void Add(int64_t begin, int64_t end, const std::vector<int64_t>& seen,
           const AttentionSums& sums) const {
    for (int64_t first = begin; first < end; first += kTileTokens) {
      const Tile& tile = tiles_[static_cast<size_t>(first / kTileTokens)];
      std::vector<ScorePart> parts;
      for (size_t p = 0; p < widths_.size(); ++p) {
        parts.push_back({queries_[p].data(),
                         widths_[p],
                         widths_[p],
                         {dtype_, tile.keys[p].data(), kTileTokens}});
      }
      AddTile({first,
               std::min(kTileTokens, end - first),
               parts,
               scaled_ ? tile.key_scales.data() : nullptr,
               {{dtype_, tile.values.data(), kCols},
                scaled_ ? tile.value_scales.data() : nullptr}},
              seen.data(), sums);
    }
  }

  void Check(const std::vector<int64_t>& seen,
             const AttentionSums& sums) const {
    for (int64_t r = 0; r < rows_; ++r) {
      std::vector<double> scores;
      double magnitude = 1;  // of the terms of a score
      double max = -DBL_MAX;
      for (int64_t k = 0; k < seen[static_cast<size_t>(r)]; ++k) {
        double score = 0;
        double terms = 0;
        size_t at = 0;
        for (size_t p = 0; p < widths_.size(); ++p) {
          for (int64_t i = 0; i < widths_[p]; ++i, ++at) {
            const double term =
                double{queries_[p][static_cast<size_t>(r * widths_[p] + i)]} *
                exact_keys_[static_cast<size_t>(k)][at];
            score += term;
            terms += std::abs(term);
          }
        }
        scores.push_back(score);
        max = std::max(max, score);
        magnitude = std::max(magnitude, terms);
      }
      double sum = 0;
      for (double& score : scores) sum += score = std::exp(score - max);
      // A score is off by its products' error, a weight by that twice, as its
      // sum is, too; then there is the sum over keys.
      const double error =
          FLT_EPSILON * (2 * 40 * magnitude + static_cast<double>(keys_) + 10);
      for (int64_t j = 0; j < kCols; ++j) {
        double want = 0;
        double size = 0;
        for (size_t k = 0; k < scores.size(); ++k) {
          const double term =
              scores[k] / sum * exact_values_[k][static_cast<size_t>(j)];
          want += term;
          size += std::abs(term);
        }
        ASSERT_NEAR(sums.context[r * kCols + j], want, error * size)
            << "row " << r << " of " << rows_ << ", " << keys_ << " keys";
      }
    }
  }

 private:
  struct Tile {
    std::vector<std::vector<char>> keys;
    std::vector<char> values;
    std::vector<float> key_scales, value_scales;
  };
  std::vector<int64_t> widths_;
  int64_t keys_;
  int64_t rows_;
  DType dtype_ = DType::kF32;
  bool scaled_ = false;
  std::vector<std::vector<float>> queries_;
  std::vector<Tile> tiles_;
  std::vector<std::vector<float>> exact_keys_, exact_values_;
};

TEST(TileAttentionTest, IsTheSoftmaxOverAllKeys) {
  for (const CacheFormat& format : kCacheFormats) {
    for (const int64_t keys : {1, 5, 63, 64, 65, 200}) {
      for (const int64_t rows : {1, 2, 3, 5, 8, 13}) {
        const Context context(format,
                              rows % 2 == 0 ? std::vector<int64_t>{17}
                                            : std::vector<int64_t>{24, 9},
                              keys, rows);
        std::vector<int64_t> seen;  // anything from one key to all
        for (int64_t r = 0; r < rows; ++r) seen.push_back(keys - r % keys);
        std::vector<float> memory(
            static_cast<size_t>(AttentionSums::Size(rows, kCols)));
        const auto sums = AttentionSums::At(memory.data(), rows, kCols);
        StartSums(sums);
        context.Add(0, keys, seen, sums);
        FinishSums(sums);
        context.Check(seen, sums);
      }
    }
  }
}

TEST(TileAttentionTest, PiecesMergeToTheSame) {
  constexpr int64_t kRows = 7;
  const CacheFormat& format = kCacheFormats[1];
  for (const int64_t keys : {65, 500}) {
    const Context context(format, {32}, keys, kRows);
    // Some rows see nothing of the last pieces.
    std::vector<int64_t> seen;
    for (int64_t r = 0; r < kRows; ++r) {
      seen.push_back(r < 3 ? r + 1 : keys - r);
    }
    const int64_t size = AttentionSums::Size(kRows, kCols);
    std::vector<float> memory(static_cast<size_t>(2 * size));
    const auto all = AttentionSums::At(memory.data(), kRows, kCols);
    const auto piece = AttentionSums::At(memory.data() + size, kRows, kCols);
    StartSums(all);
    for (int64_t begin = 0; begin < keys; begin += 2 * kTileTokens) {
      StartSums(piece);
      context.Add(begin, std::min(keys, begin + 2 * kTileTokens), seen, piece);
      MergeSums(piece, all);
    }
    FinishSums(all);
    context.Check(seen, all);
  }
}

TEST(TileAttentionTest, PiecesAreTilesAndNotTooMany) {
  for (int64_t keys = 1; keys < 200'000; keys += 37) {
    const int64_t piece = PieceKeys(keys);
    EXPECT_EQ(piece % kTileTokens, 0);
    EXPECT_LE((keys + piece - 1) / piece, 32);
  }
}

}  // namespace
}  // namespace mobe
