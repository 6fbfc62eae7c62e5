// What the sets of packed_mix.h that have vectors share: a file that includes
// this defines MOBE_TARGET, MOBE_INLINE, MOBE_MIX (the set in
// packed_mix_internal.h), MOBE_MIX_NAME and, in an unnamed namespace,
//
//   int64_t kPreparedBytes, Prepare, RoundAlphas
//       as in PackedMixSet
//   Floats
//       a vector of floats, of the compiler's own, which operators add,
//       multiply and divide
//   Floats Load(const float*), void Store(Floats, float*), Floats Spread(float)
//   Floats MulAdd(Floats a, Floats b, Floats c)
//       a b + c, rounded once
//   Floats ClampTo(Floats x, float most)
//       within [-most, most]; NaN stays
//   Floats PowerOf(Floats z)
//       s of z, whose last bits are the exponent (packed_mix_internal.h)
//   int kBlocks
//       blocks of columns side by side
//   SumTile<kB>(const uint8_t* codes, int64_t stride, const RoundedAlphas&,
//               const int32_t* used_quads, int64_t used, sums)
//       sums[b] [kVectors] = sum_i v_i (code_i - kCodeMiddle) at each column of
//       block b < kB, `stride` bytes of prepared codes after the one before
//
// No include guard: each file compiles it for its own instructions, since a
// function is inlined only where it is compiled for the same ones.
#include "kernels/packed_mix_internal.h"

// NOLINTBEGIN(google-build-namespaces,misc-definitions-in-headers): as above

namespace mobe {
namespace {

constexpr int64_t kLanes = sizeof(Floats) / sizeof(float);
constexpr int64_t kVectors = kBasesBlock / kLanes;
// Of a quad's codes at the columns of a block, as SumTile reads them.
constexpr int64_t kReadBytes =
    kQuadBytes * (kPreparedBytes == 0 ? 1 : kPreparedBytes);

// s and p of 2^(factor x) = s + s p.
struct Power {
  MOBE_INLINE Power(Floats x, float factor) {
    const Floats rounder = Spread(kMixRounder);
    const Floats factors = Spread(factor);
    const Floats z = MulAdd(x, factors, rounder);
    const Floats g = MulAdd(x, factors, rounder - z);
    Floats q = Spread(kMixPowers[4]);
    q = MulAdd(q, g, Spread(kMixPowers[3]));
    q = MulAdd(q, g, Spread(kMixPowers[2]));
    q = MulAdd(q, g, Spread(kMixPowers[1]));
    q = MulAdd(q, g, Spread(kMixPowers[0]));
    p = g * q;
    s = PowerOf(z);
  }
  Floats p, s;
};

template <Activation kF>
MOBE_INLINE Floats Activate(Floats x) {
  if constexpr (kF == Activation::kSilu) {
    const Power power(ClampTo(x, kMixMostSilu), -kMixLog2E);
    return x / MulAdd(power.p, power.s, power.s + Spread(1));
  }
  if constexpr (kF == Activation::kTanh) {
    const Power power(ClampTo(x, kMixMostTanh), 2 * kMixLog2E);
    const Floats w = MulAdd(power.p, power.s, power.s - Spread(1));
    return w / (w + Spread(2));
  }
  return x;
}

template <Activation kF, int kB>
MOBE_INLINE void MixTile(const uint8_t* codes, int64_t stride,
                         const RoundedAlphas& alphas, const int32_t* used_quads,
                         int64_t used, float* n) {
  Floats sums[kB][kVectors];
  SumTile<kB>(codes, stride, alphas, used_quads, used, sums);
  const Floats scale = Spread(alphas.scale);
  for (int b = 0; b < kB; ++b) {
    for (int64_t v = 0; v < kVectors; ++v) {
      Store(Activate<kF>(scale * sums[b][v]), n + b * kBasesBlock + v * kLanes);
    }
  }
}

template <Activation kF>
MOBE_TARGET void MixWith(const uint8_t* codes, int64_t quads,
                         const RoundedAlphas& alphas, const int32_t* used_quads,
                         int64_t used, int64_t blocks, float* n) {
  const int64_t stride = quads * kReadBytes;
  int64_t b = 0;
  for (; b + kBlocks <= blocks; b += kBlocks) {
    MixTile<kF, kBlocks>(codes + b * stride, stride, alphas, used_quads, used,
                         n + b * kBasesBlock);
  }
  for (; b < blocks; ++b) {
    MixTile<kF, 1>(codes + b * stride, stride, alphas, used_quads, used,
                   n + b * kBasesBlock);
  }
}

void Mix(const void* codes, int64_t quads, const RoundedAlphas& alphas,
         const int32_t* used_quads, int64_t used, int64_t blocks, Activation f,
         float* n) {
  const auto mix = f == Activation::kSilu   ? MixWith<Activation::kSilu>
                   : f == Activation::kTanh ? MixWith<Activation::kTanh>
                                            : MixWith<Activation::kIdentity>;
  mix(static_cast<const uint8_t*>(codes), quads, alphas, used_quads, used,
      blocks, n);
}

MOBE_TARGET void Multiply(const float* n, const float* x, int64_t count,
                          float* sums) {
  constexpr int64_t kParts = kMixLanes / kLanes;
  Floats parts[kParts];
  for (int64_t k = 0; k < kParts; ++k) parts[k] = Load(sums + kLanes * k);
  int64_t c = 0;
  for (; c + kMixLanes <= count; c += kMixLanes) {
    for (int64_t k = 0; k < kParts; ++k) {
      parts[k] =
          MulAdd(Load(n + c + kLanes * k), Load(x + c + kLanes * k), parts[k]);
    }
  }
  for (int64_t k = 0; k < kParts; ++k) Store(parts[k], sums + kLanes * k);
  for (int64_t lane = 0; c < count; ++c, ++lane) {
    sums[lane] = __builtin_fmaf(n[c], x[c], sums[lane]);
  }
}

}  // namespace

const PackedMixSet MOBE_MIX = {
    MOBE_MIX_NAME, kPreparedBytes, Prepare, RoundAlphas, Mix, Multiply};

}  // namespace mobe

// NOLINTEND(google-build-namespaces,misc-definitions-in-headers)
