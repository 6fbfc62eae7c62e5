#include "fit/error_feedback.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/cholesky.h"
#include "fit/diagonal.h"
#include "fit/fit.h"
#include "kernels/gemm.h"
#include "tensor/packed.h"

namespace mobe {
namespace {

// Columns whose losses reach those before them by one product. Within it they
// do so one by one. A multiple of every group.
constexpr int64_t kBlock = 64;
// Rows of a task: enough for a product.
constexpr int64_t kTaskRows = 4 * kPackedRows;

// Passes over all columns after the first (RefineBlock). KL divergence of the
// bundled model's experts in int2 after 0, 1, 2, 4 and 8: 0.0078, 0.0059,
// 0.0057, 0.0056, 0.0054; in int4 0.00051, 0.00043, 0.00042, 0.00042, 0.00042.
constexpr int kRefinements = 4;

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

// target[j] -= what the columns [from, to) of the block have lost, for column
// j.
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
void RoundBlock(const FormatRow& format, const RoundingNorm& norm,
                int64_t begin, int64_t end, const float* later,
                const Piece& piece) {
  const int64_t width = end - begin;
  Lanes target[kBlock] = {};
  Lanes losses[kBlock] = {};
  for (int64_t r = 0; r < piece.rows; ++r) {
    for (int64_t j = 0; j < width; ++j) {
      target[j][r] = piece.w[r * piece.cols + begin + j] - later[r * width + j];
    }
  }
  const CodeGrid grid(format);
  const auto row = [&](int64_t j) {
    return norm.factor.data() + (begin + j) * piece.cols + begin;
  };
  for (int64_t last = width; last > 0;) {
    const int64_t first =
        (begin + last - 1) / format.group * format.group - begin;
    for (int64_t j = first; j < last; ++j) {
      AddLosses(row(j), losses, last, width, target + j);
    }
    float scales[kPackedRows] = {};
    for (int64_t r = 0; r < piece.rows; ++r) {
      float numbers[kMostGroup];
      for (int64_t j = first; j < last; ++j) numbers[j - first] = target[j][r];
      const RoundedGroup group = EncodeGroup(
          format, numbers, last - first, norm.weights.data() + begin + first);
      scales[r] = ToFloat(group.scale);
      const int64_t at = (begin + first) / format.group * kPackedRows + r;
      std::memcpy(piece.scales + at * 2, &group.scale, 2);
    }
    for (int64_t j = last - 1; j >= first; --j) {
      AddLosses(row(j), losses, j + 1, last, target + j);
      for (int64_t r = 0; r < piece.rows; ++r) {
        const int64_t at = r * piece.cols + begin + j;
        const float code =
            scales[r] == 0 ? 0 : grid.Nearest(target[j][r] / scales[r]);
        piece.codes[at] = static_cast<int8_t>(code);
        losses[j][r] = scales[r] * code - piece.w[at];
        piece.loss[at] = losses[j][r];
      }
    }
    last = first;
  }
}

// Goes over the columns [begin, end) again: each number to what is nearest to
// the best one, given all others, and each scale to the best one, given the
// codes. gradient [rows, end - begin]: loss S, of these columns.
void RefineBlock(const FormatRow& format, const Buffer<float>& moment,
                 int64_t begin, int64_t end, const float* gradient,
                 const Piece& piece) {
  const int64_t width = end - begin;
  const int64_t cols = piece.cols;
  Lanes slope[kBlock] = {};
  for (int64_t r = 0; r < piece.rows; ++r) {
    for (int64_t j = 0; j < width; ++j) {
      slope[j][r] = gradient[r * width + j];
    }
  }
  const CodeGrid grid(format);
  const auto row = [&](int64_t j) {
    return moment.data() + (begin + j) * cols + begin;
  };
  // The losses of column j become greater by `more`.
  const auto add = [&](int64_t j, const float(&more)[kPackedRows]) {
    const float* s = row(j);
    for (int64_t k = 0; k < width; ++k) {
      for (int64_t r = 0; r < kPackedRows; ++r) slope[k][r] += s[k] * more[r];
    }
  };
  for (int64_t first = 0; first < width; first += format.group) {
    const int64_t last = std::min(first + format.group, width);
    float scales[kPackedRows] = {};
    float changes[kPackedRows] = {};
    for (int64_t r = 0; r < piece.rows; ++r) {
      const int64_t at = (begin + first) / format.group * kPackedRows + r;
      BFloat16 scale{};
      std::memcpy(&scale, piece.scales + at * 2, 2);
      scales[r] = ToFloat(scale);
      const int8_t* codes = piece.codes + r * cols + begin;
      float along = 0;
      float curve = 0;
      for (int64_t j = first; j < last; ++j) {
        along += static_cast<float>(codes[j]) * slope[j][r];
        const float* s = row(j);
        float sum = 0;
        for (int64_t k = first; k < last; ++k) {
          sum += s[k] * static_cast<float>(codes[k]);
        }
        curve += sum * static_cast<float>(codes[j]);
      }
      if (!(curve > 0)) continue;
      const BFloat16 better = ToBFloat16(scales[r] - along / curve);
      if (ToFloat(better) == 0) continue;
      changes[r] = ToFloat(better) - scales[r];
      scales[r] = ToFloat(better);
      std::memcpy(piece.scales + at * 2, &better, 2);
    }
    for (int64_t j = first; j < last; ++j) {
      float more[kPackedRows] = {};
      for (int64_t r = 0; r < piece.rows; ++r) {
        const int64_t at = r * cols + begin + j;
        more[r] = changes[r] * static_cast<float>(piece.codes[at]);
        piece.loss[at] += more[r];
      }
      add(j, more);
    }
    for (int64_t j = first; j < last; ++j) {
      const float curve = row(j)[j];
      float more[kPackedRows] = {};
      for (int64_t r = 0; r < piece.rows; ++r) {
        if (scales[r] == 0) continue;
        const int64_t at = r * cols + begin + j;
        const float value = piece.w[at] + piece.loss[at];
        const float code =
            grid.Nearest((value - slope[j][r] / curve) / scales[r]);
        piece.codes[at] = static_cast<int8_t>(code);
        const float loss = scales[r] * code - piece.w[at];
        more[r] = loss - piece.loss[at];
        piece.loss[at] = loss;
      }
      add(j, more);
    }
  }
}

void RoundRows(const FormatRow& format, const float* w, int64_t rows,
               int64_t cols, const RoundingNorm& norm, std::byte* codes,
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
           cols, norm.factor.data() + begin * cols + end, cols, 0.0f,
           later.data(), end - begin);
    }
    for (int64_t r = 0; r < rows; r += kPackedRows) {
      RoundBlock(format, norm, begin, end, later.data() + r * (end - begin),
                 {w + r * cols, std::min(kPackedRows, rows - r), cols,
                  loss + r * cols, rounded.data() + r * cols,
                  scales + r / kPackedRows * sizes.scale_bytes()});
    }
  }
  for (int pass = 0; pass < kRefinements; ++pass) {
    for (int64_t begin = 0; begin < cols; begin += kBlock) {
      const int64_t end = std::min(begin + kBlock, cols);
      later.Resize(rows * (end - begin));
      Gemm(Trans::kNo, Trans::kNo, rows, end - begin, cols, loss, cols,
           norm.moment.data() + begin, cols, 0.0f, later.data(), end - begin);
      for (int64_t r = 0; r < rows; r += kPackedRows) {
        RefineBlock(format, norm.moment, begin, end,
                    later.data() + r * (end - begin),
                    {w + r * cols, std::min(kPackedRows, rows - r), cols,
                     loss + r * cols, rounded.data() + r * cols,
                     scales + r / kPackedRows * sizes.scale_bytes()});
      }
    }
  }
  for (int64_t r = 0; r < rows; r += kPackedRows) {
    PackRows(format, rounded.data() + r * cols, std::min(kPackedRows, rows - r),
             cols, codes + r / kPackedRows * sizes.code_bytes);
  }
  for (int64_t i = 0; i < rows * cols; ++i) values[i] += w[i];
}

}  // namespace

void FactorMoment(int64_t cols, RoundingNorm* norm) {
  if (MeanDiagonal(cols, norm->moment.data()) == 0) {
    SetToIdentity(cols, &norm->moment);
  }
  // As little as makes it definite: in directions that hardly count the root is
  // small, and rounding is to make use of that.
  const auto mean = static_cast<float>(MeanDiagonal(cols, norm->moment.data()));
  constexpr float kLeastDamping = 1e-6f;
  constexpr float kMostDamping = 1;
  float damping = kLeastDamping;
  norm->factor.CopyFrom(norm->moment);
  while (internal::Cholesky(cols, norm->factor.data(), cols) >= 0) {
    if (damping > kMostDamping) {
      Fail(ErrorKind::kInternal, "a second moment has no Cholesky factor");
    }
    norm->factor.CopyFrom(norm->moment);
    AddToDiagonal(cols, damping * mean, norm->factor.data());
    damping *= 3;
  }
  norm->weights.Resize(cols);
  for (int64_t j = 0; j < cols; ++j) {
    float* row = norm->factor.data() + j * cols;
    const float diagonal = row[j];
    norm->weights[j] = diagonal;
    for (int64_t k = j; k < cols; ++k) row[k] /= diagonal;
  }
}

void RoundWithFeedback(const FormatRow& format, const float* w, int64_t rows,
                       int64_t cols, const RoundingNorm& norm,
                       RoundedMatrix* rounded) {
  const PackedSizes sizes = PackedSizesOf(format, cols);
  rounded->codes.Resize(RowBlocks(rows) * sizes.code_bytes);
  rounded->scales.Resize(RowBlocks(rows) * sizes.scale_bytes());
  rounded->values.Resize(rows * cols);
  ParallelRanges(rows, kTaskRows, [&](int64_t begin, int64_t end) {
    const int64_t block = begin / kPackedRows;
    RoundRows(format, w + begin * cols, end - begin, cols, norm,
              rounded->codes.data() + block * sizes.code_bytes,
              rounded->scales.data() + block * sizes.scale_bytes(),
              rounded->values.data() + begin * cols);
  });
}

void RoundWithFeedback(DType dtype, int64_t rows, int64_t cols,
                       const RoundingNorm& norm, float* w) {
  // A column's numbers together.
  Buffer<float> target(rows);
  Buffer<float> losses(cols * rows);
  for (int64_t j = cols - 1; j >= 0; --j) {
    for (int64_t r = 0; r < rows; ++r) target[r] = w[r * cols + j];
    const float* factor = norm.factor.data() + j * cols;
    for (int64_t k = j + 1; k < cols; ++k) {
      const float share = factor[k];
      const float* lost = losses.data() + k * rows;
      for (int64_t r = 0; r < rows; ++r) target[r] -= share * lost[r];
    }
    RoundTo(dtype, &target);
    for (int64_t r = 0; r < rows; ++r) {
      losses[j * rows + r] = target[r] - w[r * cols + j];
      w[r * cols + j] = target[r];
    }
  }
}

}  // namespace mobe
