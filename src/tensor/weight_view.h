// A weight matrix as it is stored, of any format. Does not own.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "tensor/format.h"

namespace mobe {

struct WeightView {
  NumberFormat format = NumberFormat::kF32;
  const void* codes = nullptr;  // the numbers of the whole stored matrix
  int64_t rows = 0;
  int64_t cols = 0;
  // Of F8, float32: a stored number is to be multiplied by that of its block of
  // block_rows x block_cols (those at the ends may be smaller), of which
  // scale_stride lie side by side. Of packed formats, BF16 (tensor/packed.h).
  const void* scales = nullptr;
  int64_t block_rows = 1;
  int64_t block_cols = 1;
  int64_t scale_stride = 0;
  int64_t first_row = 0;  // of the view, in the stored matrix

  const FormatRow& row_of_format() const { return RowOf(format); }
  bool packed() const { return RowOf(format).packed(); }

  // Of the codes and of the scales of groups; F8's scales are a 4096th where
  // blocks are 128 x 128, and not counted.
  int64_t bytes() const {
    const FormatRow& row = RowOf(format);
    const int64_t groups =
        row.packed() ? (cols + row.group - 1) / row.group : 0;
    return rows * ((cols * row.bits + 7) / 8 + groups * 2);
  }
  // The rows [first, first + count).
  WeightView Rows(int64_t first, int64_t count) const {
    WeightView view = *this;
    view.first_row += first;
    view.rows = count;
    return view;
  }
  // Of the layout by rows: the numbers of a row of the view.
  template <class T>
  const T* Row(int64_t row) const {
    return static_cast<const T*>(codes) + (first_row + row) * cols;
  }
  // Of F8: the scales of the blocks that a row passes through.
  const float* RowScales(int64_t row) const {
    return static_cast<const float*>(scales) +
           (first_row + row) / block_rows * scale_stride;
  }
};

}  // namespace mobe
