#include "fit/error_feedback.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/cholesky.h"
#include "fit/diagonal.h"
#include "kernels/gemm.h"
#include "tensor/packed.h"

namespace mobe {
namespace {

// Columns whose losses reach those before them by one product. Within it they
// do so one by one. A multiple of every group.
constexpr int64_t kBlock = 64;
// Rows of a task: enough for a product.
constexpr int64_t kTaskRows = 4 * kPackedRows;

// One number: what its code stands for.
float Nearest(const FormatRow& format, float number) {
  const float shift = IsOdd(format.bits) ? 1.0f : 0.0f;
  const float step = IsOdd(format.bits) ? 2.0f : 1.0f;
  const float code = step * std::nearbyint((number - shift) / step) + shift;
  return std::clamp(code, static_cast<float>(format.least()),
                    static_cast<float>(format.most()));
}

// Up to 16 rows of a block of columns, a column's together.
using Lanes = float[kPackedRows];

// Of up to 16 rows.
struct Piece {
  const float* w;  // [rows, cols]
  int64_t rows;
  int64_t cols;
  float* loss;  // [rows, cols]: q - w of the columns that are rounded
  int8_t* codes;
  std::byte* scales;  // [groups, 16]
};

// target[j] -= what the columns [from, to) of the block have lost, for column j.
void AddLosses(const float* factor_row, const Lanes* losses, int64_t from,
               int64_t to, Lanes* target) {
  for (int64_t k = from; k < to; ++k) {
    const float share = factor_row[k];
    for (int64_t r = 0; r < kPackedRows; ++r) {
      (*target)[r] -= share * losses[k][r];
    }
  }
}

// The columns [begin, end). later [rows, end - begin]: the sum above over the
// columns behind them.
void RoundBlock(const FormatRow& format, const Buffer<float>& factor,
                const Buffer<float>& weights, int64_t begin, int64_t end,
                const float* later, const Piece& piece) {
  const int64_t width = end - begin;
  Lanes target[kBlock] = {};
  Lanes losses[kBlock] = {};
  for (int64_t r = 0; r < piece.rows; ++r) {
    for (int64_t j = 0; j < width; ++j) {
      target[j][r] =
          piece.w[r * piece.cols + begin + j] - later[r * width + j];
    }
  }
  const auto row = [&](int64_t j) {
    return factor.data() + (begin + j) * piece.cols + begin;
  };
  for (int64_t last = width; last > 0;) {
    const int64_t first = (begin + last - 1) / format.group * format.group -
                          begin;
    for (int64_t j = first; j < last; ++j) {
      AddLosses(row(j), losses, last, width, target + j);
    }
    float scales[kPackedRows] = {};
    for (int64_t r = 0; r < piece.rows; ++r) {
      float numbers[kMostGroup];
      for (int64_t j = first; j < last; ++j) numbers[j - first] = target[j][r];
      const RoundedGroup group =
          EncodeGroup(format, numbers, last - first,
                      weights.data() + begin + first);
      scales[r] = ToFloat(group.scale);
      const int64_t at =
          (begin + first) / format.group * kPackedRows + r;
      std::memcpy(piece.scales + at * 2, &group.scale, 2);
    }
    for (int64_t j = last - 1; j >= first; --j) {
      AddLosses(row(j), losses, j + 1, last, target + j);
      for (int64_t r = 0; r < piece.rows; ++r) {
        const int64_t at = r * piece.cols + begin + j;
        const float code =
            scales[r] == 0 ? 0 : Nearest(format, target[j][r] / scales[r]);
        piece.codes[at] = static_cast<int8_t>(code);
        losses[j][r] = scales[r] * code - piece.w[at];
        piece.loss[at] = losses[j][r];
      }
    }
    last = first;
  }
}

void RoundRows(const FormatRow& format, const float* w, int64_t rows,
               int64_t cols, const Buffer<float>& factor,
               const Buffer<float>& weights, std::byte* codes,
               std::byte* scales, float* values) {
  const PackedSizes sizes = PackedSizesOf(format, cols);
  thread_local Buffer<float> later;
  std::vector<int8_t> rounded(static_cast<size_t>(rows * cols));
  std::memset(scales, 0,
              static_cast<size_t>(RowBlocks(rows) * sizes.scale_bytes()));
  float* const loss = values;
  for (int64_t begin = (cols - 1) / kBlock * kBlock; begin >= 0;
       begin -= kBlock) {
    const int64_t end = std::min(begin + kBlock, cols);
    later.Resize(rows * (end - begin));
    if (end == cols) {
      std::fill(later.begin(), later.end(), 0.0f);
    } else {
      Gemm(Trans::kNo, Trans::kYes, rows, end - begin, cols - end, loss + end,
           cols, factor.data() + begin * cols + end, cols, 0.0f, later.data(),
           end - begin);
    }
    for (int64_t r = 0; r < rows; r += kPackedRows) {
      RoundBlock(format, factor, weights, begin, end,
                 later.data() + r * (end - begin),
                 {w + r * cols, std::min(kPackedRows, rows - r), cols,
                  loss + r * cols, rounded.data() + r * cols,
                  scales + r / kPackedRows * sizes.scale_bytes()});
    }
  }
  for (int64_t r = 0; r < rows; r += kPackedRows) {
    PackRows(format, rounded.data() + r * cols,
             std::min(kPackedRows, rows - r), cols,
             codes + r / kPackedRows * sizes.code_bytes);
  }
  for (int64_t i = 0; i < rows * cols; ++i) values[i] += w[i];
}

}  // namespace

void FactorMoment(int64_t cols, Buffer<float>* moment,
                  Buffer<float>* weights) {
  Buffer<float> kept;
  kept.CopyFrom(*moment);
  const float damping = 0.01f * static_cast<float>(
                                    MeanDiagonal(cols, moment->data()));
  int tries = 0;
  while (internal::Cholesky(cols, moment->data(), cols) >= 0) {
    constexpr int kMostTries = 100;
    if (++tries > kMostTries) {
      Fail(ErrorKind::kInternal, "a second moment has no Cholesky factor");
    }
    moment->CopyFrom(kept);
    AddToDiagonal(cols, static_cast<float>(tries) * damping, moment->data());
  }
  weights->Resize(cols);
  for (int64_t j = 0; j < cols; ++j) {
    float* row = moment->data() + j * cols;
    const float diagonal = row[j];
    (*weights)[j] = diagonal * diagonal;
    for (int64_t k = j; k < cols; ++k) row[k] /= diagonal;
  }
}

void RoundWithFeedback(const FormatRow& format, const float* w, int64_t rows,
                       int64_t cols, const Buffer<float>& factor,
                       const Buffer<float>& weights, RoundedMatrix* rounded) {
  const PackedSizes sizes = PackedSizesOf(format, cols);
  rounded->codes.Resize(RowBlocks(rows) * sizes.code_bytes);
  rounded->scales.Resize(RowBlocks(rows) * sizes.scale_bytes());
  rounded->values.Resize(rows * cols);
  ParallelRanges(rows, kTaskRows, [&](int64_t begin, int64_t end) {
    const int64_t block = begin / kPackedRows;
    RoundRows(format, w + begin * cols, end - begin, cols, factor, weights,
              rounded->codes.data() + block * sizes.code_bytes,
              rounded->scales.data() + block * sizes.scale_bytes(),
              rounded->values.data() + begin * cols);
  });
}

}  // namespace mobe
