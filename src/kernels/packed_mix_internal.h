// What packed_mix.cc collects its sets from, and the numbers that they share;
// nobody else includes this.
//
// Activations are made of 2^y = s + s p, from x with y = factor x:
//
//   z = fma(x, factor, kRounder)    n = z - kRounder, an integer
//   g = fma(x, factor, -n)          |g| <= 1/2
//   p = g q(g)                      2^g - 1
//   s = 2^n                         of z's bits, shifted into an exponent
//
//   silu  x / (1 + 2^y)             1 + 2^y = fma(p, s, s + 1), y = -x log2(e)
//   tanh  w / (w + 2)               w = 2^y - 1 = fma(p, s, s - 1), y = 2 x
//                                   log2(e)
//
// with x clamped before it goes into y, so that s is a normal number; NaN
// passes. q is the polynomial of least relative error of p, 4.4e-7.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/packed_mix.h"

namespace mobe {

inline constexpr float kMixRounder = 0x1.8p23f;
inline constexpr float kMixLog2E = 0x1.715476p0f;
inline constexpr int32_t kMixOneBits = 0x3f800000;  // of 1.0f
inline constexpr int kMixMantissaBits = 23;
inline constexpr float kMixPowers[5] = {0x1.62e42ep-1f, 0x1.ebfa4ep-3f,
                                        0x1.c6b26ep-5f, 0x1.3cbe58p-7f,
                                        0x1.5d87dcp-10f};
// Beyond these e^-x is no normal number, and tanh is 1.
inline constexpr float kMixMostSilu = 87.0f;
inline constexpr float kMixMostTanh = 10.0f;

// Sets the scale of alphas whose largest magnitude has these bits; returns what
// they are to be multiplied by, 0 when all of them are to become zero. Below
// the least they are too small to have an effect, and their inverse overflows.
inline float SetAlphaScale(uint32_t largest_bits, RoundedAlphas* rounded) {
  constexpr float kLeast = 0x1p-100f;
  constexpr uint32_t kInfinity = 0x7f800000;
  rounded->middle = 0;
  if (largest_bits >= kInfinity) {
    rounded->scale = std::bit_cast<float>(kInfinity | 0x400000);
    return 0;
  }
  const auto largest = std::bit_cast<float>(largest_bits);
  rounded->scale = largest < kLeast ? 0 : largest / kMostAlpha;
  return largest < kLeast ? 0 : kMostAlpha / largest;
}

extern const PackedMixSet kScalarPackedMix;
#if defined(__x86_64__)
extern const PackedMixSet kAvx2PackedMix;
extern const PackedMixSet kAvx512VnniPackedMix;
#elif defined(__aarch64__)
extern const PackedMixSet kNeonDotPackedMix;
extern const PackedMixSet kNeonI8mmPackedMix;
#endif

}  // namespace mobe
