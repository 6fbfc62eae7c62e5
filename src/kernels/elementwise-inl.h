// Kernels that go through arrays once or twice: see kernels.h.

// Highway's guard: included again for every target.
#if defined(MOBE_KERNELS_ELEMENTWISE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOBE_KERNELS_ELEMENTWISE_INL_H_
#undef MOBE_KERNELS_ELEMENTWISE_INL_H_
#else
#define MOBE_KERNELS_ELEMENTWISE_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/kernels.h"
#include "kernels/kernels_internal.h"
#include "kernels/vectors-inl.h"

#if HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace mobe {
namespace HWY_NAMESPACE {

// Squares summed in float32 before they are added to a double.
constexpr int64_t kSquaresBlock = 1024;

void Add(const float* x, const float* y, int64_t count, float* z) {
  ForEachVector(count, [=](auto io, int64_t j) HWY_ATTR {
    io.Store(hn::Add(io.Load(x + j), io.Load(y + j)), z + j);
  });
}

void Multiply(const float* x, const float* y, int64_t count, float* z) {
  ForEachVector(count, [=](auto io, int64_t j) HWY_ATTR {
    io.Store(hn::Mul(io.Load(x + j), io.Load(y + j)), z + j);
  });
}

void RmsNormRow(const float* weight, float eps, const float* x, int64_t count,
                float* y) {
  V squares = hn::Zero(kFloats);
  ForEachVector(count, [&](auto io, int64_t j) HWY_ATTR {
    const V v = io.Load(x + j);
    squares = hn::MulAdd(v, v, squares);
  });
  const float mean = Sum(squares) / static_cast<float>(count);
  const V scale = hn::Set(kFloats, 1.0f / std::sqrt(mean + eps));
  ForEachVector(count, [=](auto io, int64_t j) HWY_ATTR {
    const V scaled = hn::Mul(io.Load(x + j), scale);
    io.Store(hn::Mul(scaled, io.Load(weight + j)), y + j);
  });
}

void Rotate(const float* cosines, const float* sines, int64_t count, float* x,
            float* y) {
  ForEachVector(count, [=](auto io, int64_t j) HWY_ATTR {
    const V a = io.Load(x + j);
    const V b = io.Load(y + j);
    const V cosine = io.Load(cosines + j);
    const V sine = io.Load(sines + j);
    io.Store(hn::NegMulAdd(b, sine, hn::Mul(a, cosine)), x + j);
    io.Store(hn::MulAdd(a, sine, hn::Mul(b, cosine)), y + j);
  });
}

void Adam(const AdamStep& step, const float* gradient, int64_t count,
          float* value, float* first_moment, float* second_moment) {
  const V beta1 = hn::Set(kFloats, step.beta1);
  const V beta2 = hn::Set(kFloats, step.beta2);
  const V rest1 = hn::Set(kFloats, 1.0f - step.beta1);
  const V rest2 = hn::Set(kFloats, 1.0f - step.beta2);
  const V epsilon = hn::Set(kFloats, step.epsilon);
  const V step_size = hn::Set(kFloats, step.step_size);
  const V scale = hn::Set(kFloats, step.denominator_scale);
  ForEachVector(count, [=](auto io, int64_t j) HWY_ATTR {
    const V g = io.Load(gradient + j);
    const V m = hn::MulAdd(beta1, io.Load(first_moment + j), hn::Mul(rest1, g));
    const V v = hn::MulAdd(beta2, io.Load(second_moment + j),
                           hn::Mul(rest2, hn::Mul(g, g)));
    io.Store(m, first_moment + j);
    io.Store(v, second_moment + j);
    const V denominator = hn::MulAdd(hn::Sqrt(v), scale, epsilon);
    const V update = hn::Div(hn::Mul(step_size, m), denominator);
    io.Store(hn::Sub(io.Load(value + j), update), value + j);
  });
}

double Subtract(const float* a, float scale, const float* b, int64_t count,
                float* e) {
  const V scales = hn::Set(kFloats, scale);
  double total = 0;
  for (int64_t j = 0; j < count; j += kSquaresBlock) {
    V sum = hn::Zero(kFloats);
    ForEachVector(
        std::min(kSquaresBlock, count - j),
        [&, a = a + j, b = b + j, e = e + j](auto io, int64_t k) HWY_ATTR {
          const V d = hn::NegMulAdd(scales, io.Load(b + k), io.Load(a + k));
          io.Store(d, e + k);
          sum = hn::MulAdd(d, d, sum);
        });
    total += Sum(sum);
  }
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace mobe
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET
#endif  // MOBE_KERNELS_ELEMENTWISE_INL_H_
