// The specification of packed_mix.h, as plain as it can be written.
#include <algorithm>
#include <cmath>

#include "kernels/packed_mix_internal.h"

namespace mobe {
namespace {

uint32_t MagnitudeBits(float x) {
  return std::bit_cast<uint32_t>(x) & 0x7fffffff;
}

// Bytes 128 high + low = value, of alpha i of its quad, which has two words:
// four high ones, four low ones.
void SetBytes(int32_t value, int64_t i, int32_t* words) {
  const int32_t high = (value + 64) >> 7;
  const int32_t low = value - 128 * high;
  auto* bytes = reinterpret_cast<int8_t*>(words + i / kQuad * 2);
  bytes[i % kQuad] = static_cast<int8_t>(high);
  bytes[kQuad + i % kQuad] = static_cast<int8_t>(low);
}

void RoundMixAlphas(const float* alpha, const float* scales, int64_t count,
                    RoundedAlphas* rounded) {
  const auto product = [&](int64_t i) {
    return alpha[i] == 0 ? 0.0f : alpha[i] * scales[i];
  };
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, MagnitudeBits(product(i)));
  }
  const float factor = SetAlphaScale(largest, rounded);
  for (int64_t i = 0; i < count; ++i) {
    const int32_t value =
        factor == 0 ? 0
                    : static_cast<int32_t>(std::nearbyint(product(i) * factor));
    rounded->middle -= kCodeMiddle * value;
    SetBytes(value, i, rounded->words);
  }
}

// s and p of 2^(factor x) = s + s p.
struct MixPower {
  MixPower(float x, float factor) {
    const float z = std::fma(x, factor, kMixRounder);
    const float n = z - kMixRounder;
    const float g = std::fma(x, factor, -n);
    float q = kMixPowers[4];
    for (int k = 3; k >= 0; --k) q = std::fma(q, g, kMixPowers[k]);
    p = g * q;
    s = std::bit_cast<float>((std::bit_cast<uint32_t>(z) << kMixMantissaBits) +
                             kMixOneBits);
  }
  float p, s;
};

// NaN stays.
float ClampTo(float x, float most) {
  const float above = -most > x ? -most : x;
  return most < above ? most : above;
}

float ActivateMix(Activation f, float x) {
  switch (f) {
    case Activation::kSilu: {
      const MixPower power(ClampTo(x, kMixMostSilu), -kMixLog2E);
      return x / std::fma(power.p, power.s, power.s + 1);
    }
    case Activation::kTanh: {
      const MixPower power(ClampTo(x, kMixMostTanh), 2 * kMixLog2E);
      const float w = std::fma(power.p, power.s, power.s - 1);
      return w / (w + 2);
    }
    case Activation::kIdentity:
      break;
  }
  return x;
}

void MixBlocks(const void* codes, int64_t quads, const RoundedAlphas& alphas,
               const int32_t* used_quads, int64_t used, int64_t blocks,
               Activation f, float* n) {
  const auto* block = static_cast<const uint8_t*>(codes);
  for (int64_t b = 0; b < blocks; ++b, block += quads * kQuadBytes) {
    for (int64_t c = 0; c < kBasesBlock; ++c) {
      // In 32 bits, as vectors have them, the first would wrap, and the middle
      // would bring the sum back.
      int64_t high = 0;
      int64_t low = alphas.middle;
      for (int64_t u = 0; u < used; ++u) {
        const int64_t q = used_quads[u];
        const uint8_t* code = block + q * kQuadBytes + c * kQuad;
        const auto* bytes =
            reinterpret_cast<const int8_t*>(alphas.words + 2 * q);
        for (int64_t i = 0; i < kQuad; ++i) {
          high += int64_t{code[i]} * bytes[i];
          low += int64_t{code[i]} * bytes[kQuad + i];
        }
      }
      const auto sum = static_cast<float>(128 * high + low);
      n[b * kBasesBlock + c] = ActivateMix(f, alphas.scale * sum);
    }
  }
}

void MultiplyMix(const float* n, const float* x, int64_t count, float* sums) {
  for (int64_t c = 0; c < count; ++c) {
    sums[c % kMixLanes] = std::fma(n[c], x[c], sums[c % kMixLanes]);
  }
}

}  // namespace

const PackedMixSet kScalarPackedMix = {"scalar",       0,         nullptr,
                                       RoundMixAlphas, MixBlocks, MultiplyMix};

}  // namespace mobe
