// The second moment of rows of inputs, summed as they come.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/matrix.h"
#include "base/parallel.h"
#include "kernels/gemm.h"

namespace mobe {

// The sum of x x^T over rows x, in double over chunks of rows. Only the part on
// and above the diagonal's blocks is summed; Mean mirrors it.
class MomentSum {
 public:
  explicit MomentSum(int64_t size)
      : size_(size), sum_(size * size), scratch_(Threads()) {
    std::fill(sum_.begin(), sum_.end(), 0.0);
  }

  int64_t size() const { return size_; }

  // x [rows, size], rows `stride` apart.
  void Add(const float* x, int64_t rows, int64_t stride) {
    // Rows of a moment that one task sums.
    constexpr int64_t kRowGrain = 64;
    ParallelRanges(size_, kRowGrain, [&](int64_t begin, int64_t end) {
      Buffer<float>& part = scratch_[static_cast<size_t>(ThreadIndex())];
      const int64_t cols = size_ - begin;
      part.Resize((end - begin) * cols);
      Gemm(Trans::kYes, Trans::kNo, end - begin, cols, rows, x + begin, stride,
           x + begin, stride, 0.0f, part.data(), cols);
      for (int64_t i = begin; i < end; ++i) {
        double* to = sum_.data() + i * size_ + begin;
        const float* from = part.data() + (i - begin) * cols;
        for (int64_t j = 0; j < cols; ++j) to[j] += from[j];
      }
    });
  }

  // The sum over `divisor`, symmetric, [size, size].
  Buffer<float> Mean(double divisor) const {
    Buffer<float> mean(size_ * size_);
    for (int64_t i = 0; i < size_; ++i) {
      for (int64_t j = i; j < size_; ++j) {
        const auto value = static_cast<float>(sum_[i * size_ + j] / divisor);
        mean[i * size_ + j] = value;
        mean[j * size_ + i] = value;
      }
    }
    return mean;
  }

 private:
  int64_t size_;
  Buffer<double> sum_;
  std::vector<Buffer<float>> scratch_;
};

}  // namespace mobe
