// What the kernels of every instruction set are made of: vectors of floats, and
// their loads and stores. Only kernels_simd.cc and its parts include this.

// Highway's guard: included again for every target.
#if defined(MOBE_KERNELS_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOBE_KERNELS_VECTORS_INL_H_
#undef MOBE_KERNELS_VECTORS_INL_H_
#else
#define MOBE_KERNELS_VECTORS_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "base/dtype.h"
#include "hwy/highway.h"

#if HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace mobe {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using BitsTag = hn::Rebind<uint32_t, FloatTag>;
using HalfBitsTag = hn::Rebind<uint16_t, FloatTag>;
using SignedTag = hn::Rebind<int16_t, FloatTag>;
using HalvesTag = hn::Rebind<hwy::float16_t, FloatTag>;
using BytesTag = hn::Rebind<int8_t, FloatTag>;
using IntsTag = hn::Rebind<int32_t, FloatTag>;
using V = hn::Vec<FloatTag>;
constexpr FloatTag kFloats;
constexpr BitsTag kBits;
constexpr HalfBitsTag kHalfBits;
constexpr SignedTag kSigned;
constexpr HalvesTag kHalves;
constexpr BytesTag kBytes;
constexpr IntsTag kInts;
constexpr int64_t kLanes = hn::MaxLanes(kFloats);

// The exponent bias of binary16 is 15, that of FP8 is 7.
constexpr float kFloat8Unit = 0x1p8f;
constexpr float kFloat8Nan = 0x1.ep0f;  // the largest number, 448, is 1.75

// Loads and stores of whole vectors, and of the first `count` lanes at an end.
// Highway's masked loads may read past the end of an array (before AVX-512), so
// ends go through a copy.

struct Whole {
  HWY_INLINE V Load(const float* p) const { return hn::LoadU(kFloats, p); }
  HWY_INLINE V Load(const BFloat16* p) const {
    const auto bits =
        hn::LoadU(kHalfBits, reinterpret_cast<const uint16_t*>(p));
    return hn::BitCast(kFloats, hn::ShiftLeft<16>(hn::PromoteTo(kBits, bits)));
  }
  HWY_INLINE V Load(const Float16* p) const {
    const auto bits =
        hn::LoadU(kHalfBits, reinterpret_cast<const uint16_t*>(p));
    return hn::PromoteTo(kFloats, hn::BitCast(kHalves, bits));
  }
  // A kFloat8Unit-th of each number; NaN as kFloat8Nan. As binary16 the bits
  // are in place when shifted, and the CPU converts those, subnormals too.
  HWY_INLINE V Load(const Float8* p) const {
    const auto bytes = hn::PromoteTo(
        kSigned, hn::LoadU(kBytes, reinterpret_cast<const int8_t*>(p)));
    // Of the sign, which fills the upper bits, one stays.
    const auto bits = hn::And(hn::ShiftLeft<7>(bytes),
                              hn::Set(kSigned, static_cast<int16_t>(0xbf80)));
    return hn::PromoteTo(kFloats, hn::BitCast(kHalves, bits));
  }
  HWY_INLINE V Load(const int8_t* p) const {
    return hn::ConvertTo(kFloats, hn::PromoteTo(kInts, hn::LoadU(kBytes, p)));
  }
  // Like Load, and OrZero(v) is v, but for a part.
  HWY_INLINE V LoadOr(const float* p, float) const { return Load(p); }
  HWY_INLINE V OrZero(V v) const { return v; }
  HWY_INLINE void Store(V v, float* p) const { hn::StoreU(v, kFloats, p); }
  // Rounds to nearest even; saturates.
  HWY_INLINE void Store(V v, int8_t* p) const {
    hn::StoreU(hn::DemoteTo(kBytes, hn::NearestInt(v)), kBytes, p);
  }
  // Rounds as ToBFloat16 does.
  HWY_INLINE void Store(V v, BFloat16* p) const {
    const auto bits = hn::BitCast(kBits, v);
    const auto high = hn::ShiftRight<16>(bits);
    const auto odd = hn::And(high, hn::Set(kBits, 1));
    const auto rounded =
        hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(kBits, 0x7fff))));
    const auto quiet = hn::Or(high, hn::Set(kBits, 0x40));
    const auto is_nan = hn::RebindMask(kBits, hn::IsNaN(v));
    hn::StoreU(
        hn::TruncateTo(kHalfBits, hn::IfThenElse(is_nan, quiet, rounded)),
        kHalfBits, reinterpret_cast<uint16_t*>(p));
  }
};

struct Part {
  int64_t count;

  // Lanes from `count` on are zero.
  template <class T>
  HWY_INLINE V Load(const T* p) const {
    T lanes[kLanes] = {};
    std::memcpy(lanes, p, static_cast<size_t>(count) * sizeof(T));
    return Whole().Load(lanes);
  }
  // Lanes from `count` on are `rest`, or 0.
  HWY_INLINE V LoadOr(const float* p, float rest) const {
    return hn::IfThenElse(Mask(), Load(p), hn::Set(kFloats, rest));
  }
  HWY_INLINE V OrZero(V v) const { return hn::IfThenElseZero(Mask(), v); }
  HWY_INLINE hn::Mask<FloatTag> Mask() const {
    return hn::FirstN(kFloats, static_cast<size_t>(count));
  }
  template <class T>
  HWY_INLINE void Store(V v, T* p) const {
    T lanes[kLanes];
    Whole().Store(v, lanes);
    std::memcpy(p, lanes, static_cast<size_t>(count) * sizeof(T));
  }
};

// Calls body(io, j) for every vector that starts at j; io loads and stores it.
template <class Body>
HWY_INLINE void ForEachVector(int64_t count, const Body& body) {
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) body(Whole(), j);
  if (j < count) body(Part{count - j}, j);
}

// Asks for `count` values to be brought to the second-level cache; nothing
// faults where there is no memory.
template <class T>
HWY_INLINE void Prefetch(const T* p, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(p + i, 0, 2);
}

HWY_INLINE float Sum(V v) { return hn::GetLane(hn::SumOfLanes(kFloats, v)); }

}  // namespace HWY_NAMESPACE
}  // namespace mobe
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET
#endif  // MOBE_KERNELS_VECTORS_INL_H_
