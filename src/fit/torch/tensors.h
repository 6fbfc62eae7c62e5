// What the files of this folder share: tensors on a device, and how it
// multiplies and factors them. This folder alone includes headers of PyTorch
// (ATen, its C++ library), and becomes a module of its own that the program
// loads when a device of it is asked for (fit/devices.h).
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
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
  Tensor Empty(at::IntArrayRef shape, at::ScalarType type = at::kFloat) const {
    return at::empty(shape, at::device(device).dtype(type));
  }
  // body(first, count) for all of `size`, a chunk at a time.
  template <class Body>
  void InChunks(int64_t size, const Body& body) const {
    for (int64_t first = 0; first < size; first += chunk) {
      body(first, std::min(chunk, size - first));
    }
  }

  // a b, of matrices or of as many pairs of them. `exact`: in float32.
  Tensor Multiply(const Tensor& a, const Tensor& b, bool exact) const;
  // The lower triangle of x x^T for a matrix x, or some [n, r, c], and what of
  // the upper one lies in the same blocks, which is what decompositions read:
  // PyTorch has no product that knows that half of it is enough.
  Tensor MultiplyBySelf(const Tensor& x, bool exact) const;
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

// L, lower triangular, with L L^T = G and `ridge` on its diagonal, for
// symmetric G [n, n], or for some [k, n, n]. Where one is not definite, with
// ten times its ridge, `tries` times in all; undefined where none helps. NaN
// gives NaN, as on the CPU: a fit that overflows shows in its error.
Tensor Factor(const Tensor& gram, Tensor ridge, int tries);
// The same with a ridge of a millionth of the mean of the diagonal
// (diagonal.h). Fails with kInternal.
Tensor FactorGram(const Tensor& gram);
// (G + damping I)^-1, with more where that is not definite. Fails with
// kInternal.
Tensor InvertDamped(const Tensor& matrix, double damping);

}  // namespace mobe::torch
