#include "fit/torch/tensors.h"

#include <limits>

#include "fit/diagonal.h"

namespace mobe::torch {

Tensor Machine::Multiply(const Tensor& a, const Tensor& b, bool exact) const {
  if (exact || !has_half) return at::matmul(a, b);
  const Tensor x = a.to(at::kBFloat16);
  const Tensor y = b.to(at::kBFloat16);
  if (x.dim() == 2 && y.dim() == 2) return at::mm(x, y, at::kFloat);
  if (y.dim() == 2) {  // [n, r, k] [k, c]
    const Tensor flat = x.reshape({-1, x.size(2)});
    return at::mm(flat, y, at::kFloat).view({x.size(0), x.size(1), -1});
  }
  return at::bmm(x.dim() == 2 ? x.expand({y.size(0), -1, -1}) : x, y,
                 at::kFloat);
}

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

Tensor Factor(const Tensor& gram, Tensor ridge, int tries) {
  for (int i = 0; i < tries; ++i) {
    Tensor damped = gram.clone();
    damped.diagonal(0, -2, -1).add_(ridge);
    const auto [factor, info] = at::linalg_cholesky_ex(damped);
    if (!info.any().item<bool>()) return factor;
    ridge = at::where(info.unsqueeze(-1) != 0, 10 * ridge, ridge);
  }
  if (gram.isfinite().all().item<bool>()) return {};
  return at::full_like(gram, std::numeric_limits<float>::quiet_NaN());
}

Tensor FactorGram(const Tensor& gram) {
  const Tensor mean = gram.diagonal(0, -2, -1).mean(-1, /*keepdim=*/true);
  const Tensor factor =
      Factor(gram, (mean * kRidge).clamp_min(kLeastRidge), /*tries=*/5);
  if (factor.defined()) return factor;
  Fail(ErrorKind::kInternal,
       "the normal equations of an expert can't be solved; try another --seed");
}

Tensor InvertDamped(const Tensor& matrix, double damping) {
  const Tensor factor =
      Factor(matrix, at::full({1}, damping, matrix.options()), /*tries=*/8);
  if (factor.defined()) return at::cholesky_inverse(factor);
  Fail(ErrorKind::kInternal, "the metric of the fit is singular");
}

}  // namespace mobe::torch
