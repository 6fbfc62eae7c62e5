#include "fit/metric.h"

#include <algorithm>
#include <numeric>
#include <type_traits>

#include "base/parallel.h"
#include "fit/cholesky.h"
#include "fit/diagonal.h"
#include "kernels/blas.h"
#include "kernels/kernels.h"

namespace mobe::internal {
namespace {

constexpr int64_t kProductGrain = 64;  // rows of a product that run together

// c = a op(b), all [size, size].
void MultiplySquare(int64_t size, Trans trans_b, const Buffer<float>& a,
                    const Buffer<float>& b, Buffer<float>* c) {
  ParallelRanges(size, kProductGrain, [&](int64_t begin, int64_t end) {
    Gemm(Trans::kNo, trans_b, end - begin, size, size, a.data() + begin * size,
         size, b.data(), size, 0.0f, c->data() + begin * size, size);
  });
}

// mean = (1 - kRenew) mean + kRenew (new) for symmetric matrices, of which only
// the upper triangle is kept; all of it new at the first time. rows(begin, end,
// out) gives rows of the new one from column `begin` on.
template <class RowsFn>
void Fade(int64_t size, bool first, const RowsFn& rows, Buffer<float>* mean) {
  ParallelRanges(size, kProductGrain, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> fresh;
    const int64_t width = size - begin;
    fresh.Resize((end - begin) * width);
    rows(begin, end, fresh.data());
    for (int64_t row = begin; row < end; ++row) {
      const float* from = fresh.data() + (row - begin) * width;
      float* old = mean->data() + row * size + begin;
      for (int64_t i = 0; i < width; ++i) {
        old[i] = first ? from[i] : (1 - kRenew) * old[i] + kRenew * from[i];
      }
    }
  });
}

// The mean of the diagonal of H H^T; of the identity when H is empty.
double MeanSquareOfRows(int64_t size, const Buffer<float>& root) {
  if (root.size() == 0) return 1;
  double sum = 0;
  for (const float value : root) sum += static_cast<double>(value) * value;
  return sum / static_cast<double>(size);
}

}  // namespace

FitMetric::FitMetric(const FitTarget& target, const FitOptions& options,
                     Precision precision, const Buffer<float>& root)
    : target_(target),
      num_bases_(options.num_bases),
      rank_(options.rank),
      precision_(precision),
      root_(root),
      square_of_root_(MeanSquareOfRows(target.cols, root)),
      stride_(LookStride(target.experts)),
      seen_((target.experts + stride_ - 1) / stride_) {
  const int64_t slots = static_cast<int64_t>(seen_.size());
  const int64_t size = slots * rank_ * target.cols;
  precision == Precision::kBFloat16 ? spaces_half_.Resize(size)
                                    : spaces_.Resize(size);
  slopes_.Resize(slots * rank_ * rank_);
  ranks_.size = rank_;
  columns_.size = target.cols;
  for (Factor* factor : {&ranks_, &columns_}) {
    factor->mean.Resize(factor->size * factor->size);
  }
}

void FitMetric::Begin(int64_t pass) {
  pass_ = pass;
  std::fill(seen_.begin(), seen_.end(), 0.0f);
}

bool FitMetric::Wants(int64_t expert) const {
  return LooksAt(expert, pass_, stride_);
}

void FitMetric::Add(int64_t expert, Activation activation, const float* mix,
                    const float* y, const float* factor, const float* a) {
  const int64_t slot = expert / stride_;
  const int64_t cols = target_.cols;
  const int64_t size = rank_ * cols;
  seen_[static_cast<size_t>(slot)] = 1;
  thread_local Buffer<float> work;
  thread_local Buffer<float> square;
  thread_local Buffer<BFloat16> half;
  work.Resize(size);
  square.Resize(rank_ * rank_);

  float* q = precision_ == Precision::kBFloat16 ? work.data()
                                                : spaces_.data() + slot * size;
  std::copy_n(y, size, q);
  SolveForward(rank_, factor, rank_, q, cols, cols);
  if (precision_ == Precision::kBFloat16) {
    Kernels().to_bfloat16(q, size, spaces_half_.data() + slot * size);
  }

  float* slopes = slopes_.data() + slot * rank_ * rank_;
  MultiplyBySelf(
      rank_, Round(precision_, a, rank_ * target_.rows, target_.rows, &half),
      slopes);
  std::fill(work.begin(), work.end(), 1.0f);
  Kernels().activate_backward(activation, mix, work.data(), size, work.data());
  MultiplyBySelf(rank_, Round(precision_, work.data(), size, cols, &half),
                 square.data());
  const float scale = 1 / static_cast<float>(cols);
  for (int64_t r = 0; r < rank_; ++r) {
    for (int64_t i = r * rank_ + r; i < (r + 1) * rank_; ++i) {
      slopes[i] *= scale * square[i];
    }
  }
}

void FitMetric::End() {
  const float total = std::accumulate(seen_.begin(), seen_.end(), 0.0f);
  if (total == 0) return;
  const auto slots = static_cast<int64_t>(seen_.size());
  for (int64_t slot = 0; slot < slots; ++slot) {
    if (seen_[static_cast<size_t>(slot)] > 0) continue;
    // No expert of this slot was seen.
    const auto clear = [&](auto* stack, int64_t size) {
      if (stack->size() == 0) return;
      std::fill_n(stack->data() + slot * size, size,
                  std::decay_t<decltype((*stack)[0])>{});
    };
    clear(&spaces_, rank_ * columns_.size);
    clear(&spaces_half_, rank_ * columns_.size);
    clear(&slopes_, rank_ * rank_);
  }
  FadeColumns(total);
  FadeRanks(total);
}

// Q of all slots, as one matrix.
Operand FitMetric::Spaces() const {
  return {spaces_.data(), spaces_half_.data(), columns_.size};
}

// Renews the mean of P, or without a moment of I - Q^T Q.
void FitMetric::FadeColumns(float total) {
  const int64_t cols = columns_.size;
  const int64_t height = static_cast<int64_t>(seen_.size()) * rank_;
  const auto rows = [&](int64_t begin, int64_t end, float* out) {
    const int64_t width = cols - begin;
    const Operand q = Spaces().From(begin);
    Multiply(Trans::kYes, Trans::kNo, end - begin, width, height, q, q, out);
    for (int64_t i = 0; i < (end - begin) * width; ++i) out[i] /= -total;
    for (int64_t k = 0; k < end - begin; ++k) out[k * width + k] += 1;
  };
  Fade(cols, pass_ == 1, rows, &columns_.mean);
  if (root_.size() == 0) {
    Invert(kColumnDamping, columns_.mean, &columns_);
    return;
  }
  projection_.Resize(cols * cols);
  for (int64_t r = 0; r < cols; ++r) {
    for (int64_t c = r; c < cols; ++c) {
      projection_[r * cols + c] = columns_.mean[r * cols + c];
      projection_[c * cols + r] = columns_.mean[r * cols + c];
    }
    projection_[r * cols + r] += kProjectionFloor;
  }
  between_.Resize(cols * cols);
  MultiplySquare(cols, Trans::kNo, root_, projection_, &between_);
  MultiplySquare(cols, Trans::kYes, between_, root_, &projection_);
  Invert(kColumnDamping * square_of_root_, projection_, &columns_);
}

void FitMetric::FadeRanks(float total) {
  const int64_t size = rank_ * rank_;
  const auto rows = [&](int64_t begin, int64_t end, float* out) {
    const int64_t width = rank_ - begin;
    std::fill_n(out, (end - begin) * width, 0.0f);
    for (size_t slot = 0; slot < seen_.size(); ++slot) {
      const float* from =
          slopes_.data() + static_cast<int64_t>(slot) * size + begin;
      for (int64_t row = begin; row < end; ++row) {
        cblas_saxpy(static_cast<int>(width), 1 / total, from + row * rank_, 1,
                    out + (row - begin) * width, 1);
      }
    }
  };
  Fade(rank_, pass_ == 1, rows, &ranks_.mean);
  Invert(std::max(kDamping * MeanDiagonal(rank_, ranks_.mean.data()), 1e-30),
         ranks_.mean, &ranks_);
}

void FitMetric::Invert(double damping, const Buffer<float>& matrix,
                       Factor* factor) {
  InvertDamped(factor->size, damping, matrix, &scratch_, &factor->inverse);
  factor->operand =
      Round(precision_, factor->inverse.data(), factor->inverse.size(),
            factor->size, &factor->inverse_half);
}

void FitMetric::Apply(const Buffer<float>& alpha, Buffer<float>* gradient) {
  const int64_t m = num_bases_;
  const int64_t cols = target_.cols;
  const int64_t size = rank_ * cols;
  bases_.mean.Resize(m * m);
  Gemm(Trans::kYes, Trans::kNo, m, m, target_.experts, alpha.data(), m,
       alpha.data(), m, 0.0f, bases_.mean.data(), m);
  InvertDamped(m,
               std::max(kDamping * MeanDiagonal(m, bases_.mean.data()), 1e-30),
               bases_.mean, &scratch_, &bases_.inverse);
  ParallelRanges(size, kMixGrain, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> old;
    const int64_t count = end - begin;
    old.Resize(m * count);
    for (int64_t i = 0; i < m; ++i) {
      std::copy_n(gradient->data() + i * size + begin, count,
                  old.data() + i * count);
    }
    Gemm(Trans::kNo, Trans::kNo, m, count, m, bases_.inverse.data(), m,
         old.data(), count, 0.0f, gradient->data() + begin, size);
  });
  ParallelFor(m, [&](int64_t i) {
    thread_local Buffer<float> between;
    thread_local Buffer<BFloat16> half;
    float* d = gradient->data() + i * size;
    between.Resize(size);
    Multiply(Trans::kNo, Trans::kNo, rank_, cols, rank_, ranks_.operand,
             Round(precision_, d, size, cols, &half), between.data());
    Multiply(Trans::kNo, Trans::kNo, rank_, cols, cols,
             Round(precision_, between.data(), size, cols, &half),
             columns_.operand, d);
  });
}

}  // namespace mobe::internal
