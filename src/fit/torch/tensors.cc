#include "fit/torch/tensors.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include "fit/diagonal.h"

namespace mobe::torch {
namespace {

Tensor NanLike(const Tensor& tensor) {
  return at::full_like(tensor, std::numeric_limits<float>::quiet_NaN());
}

}  // namespace

Tensor Machine::MultiplyBySelf(const Tensor& x, bool exact) const {
  constexpr int64_t kBlock = 192;  // rows
  if (x.dim() == 2) return MultiplyBySelf(x.unsqueeze(0), exact)[0];
  const int64_t rows = x.size(1);
  Tensor product = at::zeros({x.size(0), rows, rows}, x.options());
  for (int64_t begin = 0; begin < rows; begin += kBlock) {
    const int64_t count = std::min(kBlock, rows - begin);
    const Tensor left = x.narrow(1, begin, count);
    const Tensor right = x.narrow(1, 0, begin + count);
    product.narrow(1, begin, count)
        .narrow(2, 0, begin + count)
        .copy_(Multiply(left, right.mT(), exact));
  }
  return product;
}

Tensor SquaresOf(const Tensor& x) {
  Tensor squares = at::empty({x.size(0)}, x.options().dtype(at::kDouble));
  for (int64_t i = 0; i < x.size(0); ++i) {
    const Tensor norm =
        at::linalg_vector_norm(x[i].flatten(), 2, {}, false, at::kDouble);
    squares[i].copy_(norm.square());
  }
  return squares;
}

Tensor FactorGram(const Tensor& gram) {
  constexpr int kTries = 5;
  const Tensor mean = gram.diagonal(0, -2, -1).mean(-1, /*keepdim=*/true);
  Tensor ridge = (mean * kRidge).clamp_min(kLeastRidge);
  for (int i = 0; i < kTries; ++i) {
    Tensor damped = gram.clone();
    damped.diagonal(0, -2, -1).add_(ridge);
    const auto [factor, info] = at::linalg_cholesky_ex(damped);
    if (!info.any().item<bool>()) return factor;
    ridge = at::where(info.unsqueeze(-1) != 0, 10 * ridge, ridge);
  }
  // As on the CPU: a fit that overflows shows in its error.
  if (!gram.isfinite().all().item<bool>()) return NanLike(gram);
  Fail(ErrorKind::kInternal,
       "the normal equations of an expert can't be solved; try another --seed");
}

Tensor InvertDamped(const Tensor& matrix, double damping) {
  constexpr int kTries = 8;
  for (int i = 0; i < kTries; ++i, damping *= 10) {
    Tensor damped = matrix.clone();
    damped.diagonal().add_(damping);
    const auto [factor, info] = at::linalg_cholesky_ex(damped);
    if (!info.any().item<bool>()) return at::cholesky_inverse(factor);
  }
  if (!matrix.isfinite().all().item<bool>()) return NanLike(matrix);
  Fail(ErrorKind::kInternal, "the metric of the fit is singular");
}

}  // namespace mobe::torch
