#include "model/mix_batch.h"

#include <algorithm>
#include <vector>

#include "base/parallel.h"
#include "kernels/gemm.h"

namespace mobe {
namespace {

// Rows of N that one task stores for a matrix product.
constexpr int64_t kMixRows = 64;
// Columns of N that one task takes of a transposed product: bases are read in
// runs of that length. 128 took 1.5 times as long.
constexpr int64_t kMixCols = 256;
static_assert(kMixCols % kBasesGroup == 0);
// Of all bases together, what should stay in a core's second-level cache.
constexpr int64_t kCacheBytes = 512 << 10;
// Of all products of low-rank bases together, what a task stores: more than
// fits the cache, for V is read anew for each task.
constexpr int64_t kProductBytes = 4 << 20;

// Rows [row, row + rows) and columns [col, col + cols) of every basis, or of N.
struct TileRange {
  int64_t row, rows;
  int64_t col, cols;
};

// Of bases, in the form that jobs are mixed from.
template <class Bases>
struct Tile {
  Bases bases;
  TileRange range;
};

// A matrix of floats whose rows are `stride` apart.
struct FloatView {
  const float* data;
  int64_t stride;
};

// A tile of matrix i as floats: in place, or in `buffer`.
FloatView AsFloats(const BasesView& from, int64_t i, const TileRange& range,
                   Buffer<float>* buffer) {
  const int64_t first = (i * from.rank + range.row) * from.cols + range.col;
  if (from.dtype == DType::kF32) {
    return {static_cast<const float*>(from.data) + first, from.cols};
  }
  const auto* stored = static_cast<const BFloat16*>(from.data) + first;
  buffer->Resize(range.rows * range.cols);
  if (range.cols == from.cols) {
    Kernels().from_bfloat16(stored, range.rows * range.cols, buffer->data());
    return {buffer->data(), range.cols};
  }
  for (int64_t r = 0; r < range.rows; ++r) {
    Kernels().from_bfloat16(stored + r * from.cols, range.cols,
                            buffer->data() + r * range.cols);
  }
  return {buffer->data(), range.cols};
}

// product [rows, cols] = the tile of basis i.
void MultiplyOut(const BasesProducts& bases, int64_t i, const TileRange& range,
                 float* product) {
  thread_local Buffer<float> left_floats;
  thread_local Buffer<float> right_floats;
  const int64_t k = bases.left.cols;
  const FloatView left =
      AsFloats(bases.left, i, {range.row, range.rows, 0, k}, &left_floats);
  const FloatView right =
      AsFloats(bases.right, i, {0, k, range.col, range.cols}, &right_floats);
  Gemm(Trans::kNo, Trans::kNo, range.rows, range.cols, k, left.data,
       left.stride, right.data, right.stride, 0.0f, product, range.cols);
}

// ---------------------------------------------------------------------------
// What each form does for itself: a tile to mix from, valid until this thread's
// next call; the rows of a tile; N of it, [rows, cols], valid as long; and the
// products of jobs of few tokens, for a tile of whole rows.

Tile<BasesView> Prepare(const BasesView& whole, const TileRange& range,
                        std::span<const MixJob> /*jobs*/) {
  return {whole, range};
}

// Multiplied out, those that any job uses.
Tile<BasesView> Prepare(const BasesProducts& bases, const TileRange& range,
                        std::span<const MixJob> jobs) {
  thread_local Buffer<float> products;
  const int64_t m = bases.left.num_bases;
  const int64_t size = range.rows * range.cols;
  products.Resize(m * size);
  for (int64_t i = 0; i < m; ++i) {
    const bool used = std::ranges::any_of(
        jobs, [&](const MixJob& job) { return job.alpha[i] != 0; });
    if (used) MultiplyOut(bases, i, range, products.data() + i * size);
  }
  return {{DType::kF32, products.data(), m, range.rows, range.cols},
          {0, range.rows, 0, range.cols}};
}

Tile<PackedBases> Prepare(const PackedBases& packed, const TileRange& range,
                          std::span<const MixJob> /*jobs*/) {
  return {packed, range};
}

int64_t RowsPerTile(const BasesView& whole, int64_t cols) {
  const int64_t row_bytes = whole.num_bases * cols * DTypeSize(whole.dtype);
  return std::clamp<int64_t>(kCacheBytes / row_bytes, 1, kMixRows);
}

int64_t RowsPerTile(const BasesProducts& bases, int64_t cols) {
  const int64_t row_bytes =
      bases.left.num_bases * cols * DTypeSize(DType::kF32);
  return std::clamp<int64_t>(kProductBytes / row_bytes, 4, kMixRows);
}

int64_t RowsPerTile(const PackedBases& packed, int64_t cols) {
  const int64_t row_bytes = packed.quads() * kQuad * cols;
  return std::clamp<int64_t>(kCacheBytes / row_bytes, 1, kMixRows);
}

const float* Mix(const Tile<BasesView>& tile, const float* alpha,
                 Activation f) {
  const auto& [bases, range] = tile;
  thread_local Buffer<float> mixed;
  mixed.Resize(range.rows * range.cols);
  if (range.cols == bases.cols) {
    Kernels().basis_mix(bases, alpha, range.row * bases.cols, mixed.size(), f,
                        mixed.data());
    return mixed.data();
  }
  for (int64_t r = 0; r < range.rows; ++r) {
    Kernels().basis_mix(bases, alpha, (range.row + r) * bases.cols + range.col,
                        range.cols, f, mixed.data() + r * range.cols);
  }
  return mixed.data();
}

const float* Mix(const Tile<PackedBases>& tile, const float* alpha,
                 Activation f) {
  const auto& [bases, range] = tile;
  thread_local Buffer<float> mixed;
  mixed.Resize(range.rows * range.cols);
  StorePackedMix(PackedMix(), bases, alpha, f, range.row, range.rows, range.col,
                 range.cols, mixed.data());
  return mixed.data();
}

void MultiplyFew(const Tile<BasesView>& tile, Activation f,
                 std::span<const MixJob> jobs, int64_t first, int64_t rank) {
  const auto& [bases, range] = tile;
  for (const MixJob& job : jobs) {
    Kernels().mix_mat_vec(bases, job.alpha, range.row, range.rows, f, job.x,
                          bases.cols, job.tokens, job.u + first, rank);
  }
}

void MultiplyFew(const Tile<PackedBases>& tile, Activation f,
                 std::span<const MixJob> jobs, int64_t /*first*/,
                 int64_t /*rank*/) {
  MultiplyPackedMix(PackedMix(), tile.bases, f, jobs, tile.range.row,
                    tile.range.rows);
}

// ---------------------------------------------------------------------------

template <class Form>
int64_t RowsPerTask(const Form& form, int64_t cols, Phase phase) {
  constexpr bool kAreProducts = std::is_same_v<Form, BasesProducts>;
  return phase == Phase::kPrefill && !kAreProducts ? kMixRows
                                                   : RowsPerTile(form, cols);
}

// In decode, of few tokens each, products that store no mix win; in prefill the
// mix is stored and a matrix product has it.
template <class Form>
void MixRows(const Form& form, int64_t rank, int64_t cols, Activation f,
             Phase phase, std::span<const MixJob> jobs) {
  const int64_t rows = RowsPerTask(form, cols, phase);
  ParallelRanges(rank, rows, [&](int64_t begin, int64_t end) {
    const auto tile = Prepare(form, {begin, end - begin, 0, cols}, jobs);
    if (phase == Phase::kDecode) {
      MultiplyFew(tile, f, jobs, begin, rank);
      return;
    }
    for (const MixJob& job : jobs) {
      const WeightView mixed = {NumberFormat::kF32, Mix(tile, job.alpha, f),
                                end - begin, cols};
      Kernels().mat_vec(mixed, job.x, cols, job.tokens, job.u + begin, rank);
    }
  });
}

template <class Form>
void MixColumns(const Form& form, int64_t rank, int64_t cols, Activation f,
                std::span<const MixJob> jobs) {
  ParallelRanges(cols, kMixCols, [&](int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    const int64_t rows = RowsPerTile(form, width);
    for (int64_t row = 0; row < rank; row += rows) {
      const int64_t count = std::min(rows, rank - row);
      const auto tile = Prepare(form, {row, count, begin, width}, jobs);
      for (const MixJob& job : jobs) {
        if (row == 0) {
          for (int64_t t = 0; t < job.tokens; ++t) {
            std::fill_n(job.u + t * cols + begin, width, 0.0f);
          }
        }
        const TileView mixed = {DType::kF32, Mix(tile, job.alpha, f), width};
        Kernels().add_products(job.tokens, count, width, job.x + row, rank,
                               mixed, job.u + begin, cols);
      }
    }
  });
}

}  // namespace

void MixBatch(const StoredBases& bases, Activation f, Phase phase,
              std::span<const MixJob> jobs) {
  std::visit(
      [&](const auto& form) {
        MixRows(form, bases.rank, bases.cols, f, phase, jobs);
      },
      bases.form);
}

void MixBatchTransposed(const StoredBases& bases, Activation f,
                        std::span<const MixJob> jobs) {
  std::visit(
      [&](const auto& form) {
        MixColumns(form, bases.rank, bases.cols, f, jobs);
      },
      bases.form);
}

const float* MixExpert(const StoredBases& bases, const float* alpha,
                       Activation f) {
  const MixJob job{.alpha = alpha};
  const TileRange all = {0, bases.rank, 0, bases.cols};
  return std::visit(
      [&](const auto& form) {
        return Mix(Prepare(form, all, {&job, 1}), alpha, f);
      },
      bases.form);
}

void ExpandBases(const StoredBases& bases, float* product) {
  const auto& products = std::get<BasesProducts>(bases.form);
  const int64_t size = bases.rank * bases.cols;
  ParallelFor(bases.num_bases, [&](int64_t i) {
    MultiplyOut(products, i, {0, bases.rank, 0, bases.cols},
                product + i * size);
  });
}

}  // namespace mobe
