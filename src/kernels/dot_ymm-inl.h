// Products by vectors of eight rows, for the sets that differ in one step: a
// file that includes this defines MOBE_TARGET, MOBE_INLINE, MOBE_MULTIPLY (the
// function's name) and, in an unnamed namespace,
//
//   __m256i StartQuads(int32_t middle, int bits)
//       where a group's sums start
//   __m256i AddQuad(__m256i sums, __m256i codes, const QuadInputs& inputs,
//                   int bits)
//       sums += codes, less their middle, times a quad of inputs. Codes are
//       bytes with their middle at 2^(bits - 1)
//   QuadInputs LoadInputs(const int8_t* quad)
//
// No include guard: each file compiles it for its own instructions.
#include <immintrin.h>

#include "kernels/dot_internal.h"

namespace mobe {
namespace {

MOBE_INLINE __m256 LoadScales(const uint16_t* scales) {
  const __m128i bits =
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales));
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// products[t] += a quad of codes, of 16 rows, times that of kT tokens.
template <int kBits, int kT>
MOBE_INLINE void AddQuads(__m256i low, __m256i high, const int8_t* in,
                          int64_t in_stride, __m256i (*products)[2]) {
  for (int t = 0; t < kT; ++t) {
    const QuadInputs inputs = LoadInputs(in + t * in_stride);
    products[t][0] = AddQuad(products[t][0], low, inputs, kBits);
    products[t][1] = AddQuad(products[t][1], high, inputs, kBits);
  }
}

// kT tokens by the 16 rows of a block, whose codes are packed in kBits: bytes,
// or, of 4 bits, two quads in the halves of 64 bytes (tensor/int4.cc).
template <int kBits, int kT>
MOBE_INLINE void MultiplyTile(const uint8_t* codes, const uint16_t* scales,
                              const PackedSizes& sizes, int64_t group_quads,
                              const RoundedInputs& x, int64_t token,
                              const LaneRange& lanes, float* y,
                              int64_t y_stride) {
  const int64_t stride = x.quads * kQuad;
  const int8_t* in = x.codes.data() + token * stride;
  __m256 sums[kT][2];
  for (auto& sum : sums) sum[0] = sum[1] = _mm256_setzero_ps();
  for (int64_t g = 0; g < sizes.groups; ++g) {
    const int64_t first = g * group_quads;
    const int64_t left = sizes.quads - first;
    const int64_t end = first + (left < group_quads ? left : group_quads);
    __m256i products[kT][2];
    for (int t = 0; t < kT; ++t) {
      products[t][0] = products[t][1] =
          StartQuads(x.middle[(token + t) * x.groups + g], kBits);
    }
    for (int64_t q = first; q < end; q += 8 / kBits) {
      const auto* from =
          reinterpret_cast<const __m256i*>(codes + q * kQuadBytes * kBits / 8);
      const __m256i low = _mm256_loadu_si256(from);
      const __m256i high = _mm256_loadu_si256(from + 1);
      const int8_t* quad = in + q * kQuad;
      if constexpr (kBits == 8) {
        AddQuads<kBits, kT>(low, high, quad, stride, products);
      } else {
        const __m256i half = _mm256_set1_epi8(0x0f);
        AddQuads<kBits, kT>(_mm256_and_si256(low, half),
                            _mm256_and_si256(high, half), quad, stride,
                            products);
        AddQuads<kBits, kT>(_mm256_and_si256(_mm256_srli_epi16(low, 4), half),
                            _mm256_and_si256(_mm256_srli_epi16(high, 4), half),
                            quad + kQuad, stride, products);
      }
    }
    const __m256 row_scales[2] = {LoadScales(scales + g * kPackedRows),
                                  LoadScales(scales + g * kPackedRows + 8)};
    for (int t = 0; t < kT; ++t) {
      const __m256 scale = _mm256_set1_ps(x.scales[(token + t) * x.groups + g]);
      for (int half = 0; half < 2; ++half) {
        sums[t][half] = _mm256_fmadd_ps(_mm256_mul_ps(row_scales[half], scale),
                                        _mm256_cvtepi32_ps(products[t][half]),
                                        sums[t][half]);
      }
    }
  }
  for (int t = 0; t < kT; ++t) {
    float all[kPackedRows];
    _mm256_storeu_ps(all, sums[t][0]);
    _mm256_storeu_ps(all + 8, sums[t][1]);
    __builtin_memcpy(y + t * y_stride + lanes.row, all + lanes.begin,
                     static_cast<size_t>(lanes.end - lanes.begin) * 4);
  }
}

// One token reads the codes as they are packed; of several each would unpack
// them again.
template <int kBits>
MOBE_TARGET void MultiplyOne(const WeightView& w, const PackedSizes& sizes,
                             const RoundedInputs& x, int64_t token, float* y) {
  const int64_t group_quads = RowOf(w.format).group / kQuad;
  for (LaneRange lanes = FirstLanes(w); lanes.row < w.rows;
       lanes = NextLanes(w, lanes)) {
    const auto* codes =
        static_cast<const uint8_t*>(w.codes) + lanes.block * sizes.code_bytes;
    MultiplyTile<kBits, 1>(codes, BlockScales(w, sizes, lanes.block), sizes,
                           group_quads, x, token, lanes, y, 0);
  }
}

}  // namespace

MOBE_TARGET void MOBE_MULTIPLY(const WeightView& w, const RoundedInputs& x,
                               int64_t first, int64_t tokens, float* y,
                               int64_t y_stride) {
  constexpr int kTokens = 2;
  const FormatRow& format = RowOf(w.format);
  const PackedSizes sizes = PackedSizesOf(format, w.cols);
  if (tokens == 1 && format.bits == 8) {
    return MultiplyOne<8>(w, sizes, x, first, y);
  }
  if (tokens == 1 && format.bits == 4) {
    return MultiplyOne<4>(w, sizes, x, first, y);
  }
  const int64_t group_quads = format.group / kQuad;
  for (LaneRange lanes = FirstLanes(w); lanes.row < w.rows;
       lanes = NextLanes(w, lanes)) {
    const uint8_t* codes = BlockCodes(w, sizes, lanes.block);
    const uint16_t* scales = BlockScales(w, sizes, lanes.block);
    int64_t t = 0;
    for (; t + kTokens <= tokens; t += kTokens) {
      MultiplyTile<8, kTokens>(codes, scales, sizes, group_quads, x, first + t,
                               lanes, y + t * y_stride, y_stride);
    }
    for (; t < tokens; ++t) {
      MultiplyTile<8, 1>(codes, scales, sizes, group_quads, x, first + t, lanes,
                         y + t * y_stride, y_stride);
    }
  }
}

}  // namespace mobe
