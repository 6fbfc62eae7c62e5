#include "model/mix_batch.h"

#include <algorithm>

#include "base/parallel.h"
#include "kernels/gemm.h"

namespace mobe {
namespace {

// Up to this many tokens mix_mat_vec wins, which stores nothing; for more, the
// mix is stored and a matrix product has it.
constexpr int64_t kMatVecTokens = 8;
// Rows of N that one task stores for such a product.
constexpr int64_t kMixRows = 64;
// Columns of N that one task takes of a transposed product: bases are read in
// runs of that length. 128 took 1.5 times as long.
constexpr int64_t kMixCols = 256;
// Of all bases together, what should stay in a core's second-level cache.
constexpr int64_t kCacheBytes = 512 << 10;
// Of all products of low-rank bases together, what a task stores: more than
// fits the cache, for V is read anew for each task.
constexpr int64_t kProductBytes = 4 << 20;

// Rows [row, row + rows) and columns [col, col + cols) of every basis.
struct Tile {
  BasesView bases;
  int64_t row, rows;
  int64_t col, cols;
};

// A matrix of floats whose rows are `stride` apart.
struct FloatView {
  const float* data;
  int64_t stride;
};

// A tile of matrix i as floats: in place, or in `buffer`.
FloatView AsFloats(const BasesView& from, int64_t i, int64_t row, int64_t rows,
                   int64_t col, int64_t cols, Buffer<float>* buffer) {
  const int64_t first = (i * from.rank + row) * from.cols + col;
  if (from.dtype == DType::kF32) {
    return {static_cast<const float*>(from.data) + first, from.cols};
  }
  const auto* stored = static_cast<const BFloat16*>(from.data) + first;
  buffer->Resize(rows * cols);
  if (cols == from.cols) {
    Kernels().from_bfloat16(stored, rows * cols, buffer->data());
    return {buffer->data(), cols};
  }
  for (int64_t r = 0; r < rows; ++r) {
    Kernels().from_bfloat16(stored + r * from.cols, cols,
                            buffer->data() + r * cols);
  }
  return {buffer->data(), cols};
}

// product [rows, cols] = the tile of basis i.
void MultiplyTile(const StoredBases& stored, int64_t i, const Tile& tile,
                  float* product) {
  thread_local Buffer<float> left_floats;
  thread_local Buffer<float> right_floats;
  const int64_t k = stored.left.cols;
  const FloatView left =
      AsFloats(stored.left, i, tile.row, tile.rows, 0, k, &left_floats);
  const FloatView right =
      AsFloats(stored.right, i, 0, k, tile.col, tile.cols, &right_floats);
  Gemm(Trans::kNo, Trans::kNo, tile.rows, tile.cols, k, left.data, left.stride,
       right.data, right.stride, 0.0f, product, tile.cols);
}

// A tile to mix from: low-rank bases are multiplied out, those that any job
// uses. Valid until this thread's next call.
Tile Prepare(const StoredBases& stored, Tile tile,
             std::span<const MixJob> jobs) {
  tile.bases = stored.whole;
  if (!stored.AreProducts()) return tile;
  thread_local Buffer<float> products;
  const int64_t m = stored.whole.num_bases;
  const int64_t size = tile.rows * tile.cols;
  products.Resize(m * size);
  for (int64_t i = 0; i < m; ++i) {
    const bool used = std::ranges::any_of(
        jobs, [&](const MixJob& job) { return job.alpha[i] != 0; });
    if (used) MultiplyTile(stored, i, tile, products.data() + i * size);
  }
  return {{DType::kF32, products.data(), m, tile.rows, tile.cols},
          0,
          tile.rows,
          0,
          tile.cols};
}

// f(sum alpha B) [rows, cols] of a prepared tile. Valid until this thread's
// next call.
const float* Mix(const Tile& tile, const float* alpha, Activation f) {
  thread_local Buffer<float> mixed;
  mixed.Resize(tile.rows * tile.cols);
  const int64_t stride = tile.bases.cols;
  if (tile.cols == stride) {
    Kernels().basis_mix(tile.bases, alpha, tile.row * stride, mixed.size(), f,
                        mixed.data());
    return mixed.data();
  }
  for (int64_t r = 0; r < tile.rows; ++r) {
    Kernels().basis_mix(tile.bases, alpha, (tile.row + r) * stride + tile.col,
                        tile.cols, f, mixed.data() + r * tile.cols);
  }
  return mixed.data();
}

// Rows of N in a tile of `cols` columns.
int64_t RowsPerTile(const StoredBases& bases, int64_t cols) {
  const int64_t row_elements = bases.whole.num_bases * cols;
  if (bases.AreProducts()) {
    const int64_t row_bytes =
        row_elements * static_cast<int64_t>(sizeof(float));
    return std::clamp<int64_t>(kProductBytes / row_bytes, 4, kMixRows);
  }
  return std::clamp<int64_t>(
      kCacheBytes / (row_elements * DTypeSize(bases.whole.dtype)), 1, kMixRows);
}

int64_t RowsPerTask(const StoredBases& bases, std::span<const MixJob> jobs) {
  if (!bases.AreProducts()) {
    for (const MixJob& job : jobs) {
      if (job.tokens > kMatVecTokens) return kMixRows;
    }
  }
  return RowsPerTile(bases, bases.whole.cols);
}

}  // namespace

int64_t StoredBases::bytes() const {
  int64_t bytes = 0;
  for (const BasesView* part : {&whole, &left, &right}) {
    if (part->data == nullptr) continue;
    bytes += part->num_bases * part->rank * part->cols * DTypeSize(part->dtype);
  }
  return bytes;
}

void MixBatch(const StoredBases& bases, Activation f,
              std::span<const MixJob> jobs) {
  const int64_t rank = bases.whole.rank;
  const int64_t cols = bases.whole.cols;
  const int64_t rows = RowsPerTask(bases, jobs);
  ParallelRanges(rank, rows, [&](int64_t begin, int64_t end) {
    const Tile tile =
        Prepare(bases, {bases.whole, begin, end - begin, 0, cols}, jobs);
    for (const MixJob& job : jobs) {
      if (job.tokens > kMatVecTokens) {
        Gemm(Trans::kNo, Trans::kYes, job.tokens, tile.rows, tile.cols, job.x,
             cols, Mix(tile, job.alpha, f), cols, 0.0f, job.u + begin, rank);
      } else {
        Kernels().mix_mat_vec(tile.bases, job.alpha, tile.row, tile.rows, f,
                              job.x, cols, job.tokens, job.u + begin, rank);
      }
    }
  });
}

void MixBatchTransposed(const StoredBases& bases, Activation f,
                        std::span<const MixJob> jobs) {
  const int64_t rank = bases.whole.rank;
  const int64_t cols = bases.whole.cols;
  ParallelRanges(cols, kMixCols, [&](int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    const int64_t rows = RowsPerTile(bases, width);
    for (int64_t row = 0; row < rank; row += rows) {
      const Tile tile = Prepare(
          bases, {bases.whole, row, std::min(rows, rank - row), begin, width},
          jobs);
      for (const MixJob& job : jobs) {
        Gemm(Trans::kNo, Trans::kNo, job.tokens, width, tile.rows, job.x + row,
             rank, Mix(tile, job.alpha, f), width, row == 0 ? 0.0f : 1.0f,
             job.u + begin, cols);
      }
    }
  });
}

void ExpandBases(const StoredBases& bases, float* product) {
  const int64_t rank = bases.whole.rank;
  const int64_t cols = bases.whole.cols;
  ParallelFor(bases.whole.num_bases, [&](int64_t i) {
    MultiplyTile(bases, i, {bases.whole, 0, rank, 0, cols},
                 product + i * rank * cols);
  });
}

}  // namespace mobe
