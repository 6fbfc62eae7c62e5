// Conversions between float32 and what is stored, for kernels_simd.cc.

// Highway's guard: included again for every target.
#if defined(MOBE_KERNELS_CONVERT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOBE_KERNELS_CONVERT_INL_H_
#undef MOBE_KERNELS_CONVERT_INL_H_
#else
#define MOBE_KERNELS_CONVERT_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"
#include "kernels/kernels_internal.h"
#include "kernels/vectors-inl.h"

#if HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace mobe {
namespace HWY_NAMESPACE {

void ToBFloat16s(const float* x, int64_t count, BFloat16* y) {
  ForEachVector(count, [=](auto io, int64_t j)
                           HWY_ATTR { io.Store(io.Load(x + j), y + j); });
}

// The largest magnitude; NaN where there is one.
float LargestOf(const float* x, int64_t count) {
  V most = hn::Zero(kFloats);
  ForEachVector(count, [&](auto io, int64_t j) HWY_ATTR {
    // As integers magnitudes have the order of floats, and NaN is the largest.
    const auto magnitude = hn::BitCast(kInts, hn::Abs(io.Load(x + j)));
    most = hn::BitCast(kFloats, hn::Max(magnitude, hn::BitCast(kInts, most)));
  });
  const auto all = hn::MaxOfLanes(kInts, hn::BitCast(kInts, most));
  return hn::GetLane(hn::BitCast(kFloats, all));
}

RoundedRow ToInt8s(const float* x, int64_t count, int8_t* y) {
  const float largest = LargestOf(x, count);
  const bool finite = largest <= std::numeric_limits<float>::max();
  if (!finite || largest < kLeastInt8) {
    std::fill_n(y, count, int8_t{0});
    return {finite ? 0.0f : std::numeric_limits<float>::quiet_NaN(), 0};
  }
  const V inverse = hn::Set(kFloats, kMostInt8 / largest);
  auto sum = hn::Zero(kInts);
  ForEachVector(count, [&](auto io, int64_t j) HWY_ATTR {
    const V scaled = hn::Mul(io.Load(x + j), inverse);
    sum = hn::Add(sum, hn::NearestInt(scaled));
    io.Store(scaled, y + j);
  });
  return {largest / kMostInt8, hn::GetLane(hn::SumOfLanes(kInts, sum))};
}

RoundedRow ToInt15s(const float* x, int64_t count, int8_t* high, int8_t* low) {
  const float largest = LargestOf(x, count);
  const bool finite = largest <= std::numeric_limits<float>::max();
  if (!finite || largest < kLeastInt15) {
    std::fill_n(high, count, int8_t{0});
    std::fill_n(low, count, int8_t{0});
    return {finite ? 0.0f : std::numeric_limits<float>::quiet_NaN(), 0};
  }
  const V inverse = hn::Set(kFloats, kMostInt15 / largest);
  auto sum = hn::Zero(kInts);
  ForEachVector(count, [&](auto io, int64_t j) HWY_ATTR {
    const auto v = hn::NearestInt(hn::Mul(io.Load(x + j), inverse));
    const auto upper = hn::ShiftRight<7>(hn::Add(v, hn::Set(kInts, 64)));
    sum = hn::Add(sum, v);
    io.Store(hn::ConvertTo(kFloats, upper), high + j);
    io.Store(hn::ConvertTo(kFloats, hn::Sub(v, hn::ShiftLeft<7>(upper))),
             low + j);
  });
  return {largest / kMostInt15, hn::GetLane(hn::SumOfLanes(kInts, sum))};
}

void FromInt8s(const int8_t* x, int64_t count, float* y) {
  ForEachVector(count, [=](auto io, int64_t j)
                           HWY_ATTR { io.Store(io.Load(x + j), y + j); });
}

void FromFloat16s(const Float16* x, int64_t count, float* y) {
  ForEachVector(count, [=](auto io, int64_t j)
                           HWY_ATTR { io.Store(io.Load(x + j), y + j); });
}

void FromBFloat16s(const BFloat16* x, int64_t count, float* y) {
  ForEachVector(count, [=](auto io, int64_t j)
                           HWY_ATTR { io.Store(io.Load(x + j), y + j); });
}

void FromFloat8s(const Float8* x, int64_t count, float scale, float* y) {
  const V scales = hn::Set(kFloats, scale);
  ForEachVector(count, [=](auto io, int64_t j) HWY_ATTR {
    const V part = io.Load(x + j);
    const auto is_nan = hn::Eq(hn::Abs(part), hn::Set(kFloats, kFloat8Nan));
    const V value = hn::Mul(part, hn::Set(kFloats, kFloat8Unit));
    io.Store(hn::Mul(scales, hn::IfThenElse(is_nan, hn::NaN(kFloats), value)),
             y + j);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace mobe
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET
#endif  // MOBE_KERNELS_CONVERT_INL_H_
