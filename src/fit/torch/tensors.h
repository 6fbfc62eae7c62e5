// What the files of this folder share: tensors on a device, and how it
// multiplies and factors them. This folder alone includes headers of PyTorch
// (ATen, its C++ library), and becomes a module of its own that the program
// loads when a device of it is asked for (fit/devices.h).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "base/error.h"
#include "base/matrix.h"
#include "kernels/kernels.h"

namespace mobe::torch {

using at::Tensor;

// Float32 that lies in memory of the process, unowned. PyTorch has no view of
// const data: what is const stays so because nothing here writes to it.
inline Tensor View(const float* data, at::IntArrayRef shape) {
  return at::from_blob(const_cast<float*>(data), shape, at::kFloat);
}

// A copy, in memory of the process.
inline Buffer<float> ToHost(const Tensor& tensor) {
  Buffer<float> values(tensor.numel());
  View(values.data(), tensor.sizes()).copy_(tensor);
  return values;
}

// Where tensors lie, and what multiplies them.
struct Machine {
  at::Device device = at::kCPU;
  // Products of bfloat16 with float32 sums, where they are faster: on cards,
  // that is. ATen's CPU has none that leave the sums in float32.
  bool has_half = false;
  // Experts that go through a pass together.
  int64_t chunk = 1;
  // The target has no room on the device: it stays in memory of the process, in
  // bfloat16 where that loses nothing, and comes over with each chunk.
  bool target_on_host = false;

  Tensor On(const Tensor& tensor, at::ScalarType type = at::kFloat) const {
    return tensor.to(device, type);
  }

  // The lower triangle of x x^T for a matrix x, or some [n, r, c], and what of
  // the upper one lies in the same blocks, which is what decompositions read:
  // PyTorch has no product that knows that half of it is enough.
  Tensor MultiplyBySelf(const Tensor& x, bool exact) const;
  // a b, of matrices or of as many pairs of them. `exact`: in float32.
  Tensor Multiply(const Tensor& a, const Tensor& b, bool exact) const {
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
};

// The sum of squares of each x[i], in double; one after another, since PyTorch
// makes a copy in double of what it sums so.
Tensor SquaresOf(const Tensor& x);

// y = f(x), and d f'(x).
inline Tensor Activate(Activation f, const Tensor& x) {
  if (f == Activation::kSilu) return at::silu(x);
  if (f == Activation::kTanh) return at::tanh(x);
  return x;
}
inline Tensor ActivateBackward(Activation f, const Tensor& x, const Tensor& d) {
  if (f == Activation::kSilu) return at::silu_backward(d, x);
  if (f == Activation::kTanh) return at::tanh_backward(d, at::tanh(x));
  return d;
}

// L, lower triangular, with L L^T = G + ridge I for symmetric G [n, n], or for
// some [k, n, n]: a ridge of a millionth of the mean of the diagonal
// (diagonal.h), ten times more where that is not definite. NaN gives NaN.
// Fails with kInternal.
Tensor FactorGram(const Tensor& gram);
// (G + damping I)^-1, ten times more damped until that is definite.
Tensor InvertDamped(const Tensor& matrix, double damping);

}  // namespace mobe::torch
