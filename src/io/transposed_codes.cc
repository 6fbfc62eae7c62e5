#include "io/transposed_codes.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/json.h"

namespace mobe {
namespace {

// Where the number i is in a word, lowest first.
constexpr int kAwqPlaces[] = {0, 4, 1, 5, 2, 6, 3, 7};

uint32_t WordAt(const TensorView& tensor, int64_t at) {
  uint32_t word = 0;
  std::memcpy(&word, tensor.data.data() + at * 4, sizeof(word));
  return word;
}

// One row of the matrix.
class RowReader {
 public:
  RowReader(const TensorView& matrix, int64_t row)
      : matrix_(matrix),
        codes_(*matrix.transposed),
        row_(row),
        in_word_(CodesInWord(matrix.code_bits)),
        mask_((uint32_t{1} << matrix.code_bits) - 1) {
    if (codes_.zeros_less_one) {
      for (int64_t i = 0; i < in_word_; ++i) one_ |= 1u << Shift(i);
    }
  }

  float At(int64_t col) {
    Enter(GroupOf(col));
    const bool awq = codes_.order == CodesOrder::kAwq;
    const uint32_t word =
        awq ? WordAt(matrix_, col * RowWords() + row_ / in_word_)
            : WordAt(matrix_, col / in_word_ * matrix_.shape[0] + row_);
    const int shift = awq ? ShiftOfRow() : Shift(col % in_word_);
    const auto code = static_cast<int>(word >> shift & mask_);
    return scale_ * static_cast<float>(code - zero_);
  }

 private:
  int64_t RowWords() const { return matrix_.shape[0] / in_word_; }
  int Shift(int64_t place) const {
    return static_cast<int>(place) * matrix_.code_bits;
  }
  // Of this row's number in a word of several rows.
  int ShiftOfRow() const {
    const int64_t in = row_ % in_word_;
    return Shift(codes_.order == CodesOrder::kAwq ? kAwqPlaces[in] : in);
  }

  int64_t GroupOf(int64_t col) const {
    if (codes_.groups == nullptr) return col / codes_.group_cols;
    const auto group = static_cast<int32_t>(WordAt(*codes_.groups, col));
    const int64_t groups = codes_.scales->shape[0];
    if (group < 0 || group >= groups) {
      Fail(ErrorKind::kCorruptFile,
           "tensor {}: the group of column {} is {}, expected 0 to {}",
           Excerpt(codes_.groups->name), col, group, groups - 1);
    }
    return group;
  }

  void Enter(int64_t group) {
    if (group == group_) return;
    group_ = group;
    const TensorView& scales = *codes_.scales;
    scale_ = LoadAsFloat(scales.dtype, scales.data.data(),
                         group * matrix_.shape[0] + row_);
    const uint32_t word =
        WordAt(*codes_.zeros, group * RowWords() + row_ / in_word_) + one_;
    zero_ = static_cast<int>(word >> ShiftOfRow() & mask_);
  }

  const TensorView& matrix_;
  const TransposedCodes& codes_;
  const int64_t row_;
  const int64_t in_word_;
  const uint32_t mask_;
  uint32_t one_ = 0;  // of every number in a word of zeros
  int64_t group_ = -1;
  float scale_ = 0;
  int zero_ = 0;
};

}  // namespace

void LoadTransposed(const TensorView& matrix, int64_t first, int64_t count,
                    float* out) {
  const int64_t cols = matrix.shape[1];
  while (count > 0) {
    const int64_t col = first % cols;
    const int64_t run = std::min(cols - col, count);
    RowReader row(matrix, first / cols);
    for (int64_t i = 0; i < run; ++i) *out++ = row.At(col + i);
    first += run;
    count -= run;
  }
}

}  // namespace mobe
