#include "kernels/token_lanes.h"

#include <algorithm>
#include <string_view>

#include "base/matrix.h"
#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define MOBE_TARGET __attribute__((target("avx512f,avx512bw,avx512bf16")))
#define MOBE_INLINE \
  __attribute__((target("avx512f,avx512bw,avx512bf16"), always_inline)) inline
#endif

namespace mobe {

#if defined(__x86_64__)

namespace {

// Rows of a tile. Not 16 with one block of tokens: rows of 2048 weights lie a
// page apart, and so all in one set of the first cache, which has 12 places.
constexpr int64_t kRows = 8;

// Lane j of vector i becomes lane i of vector j.
MOBE_INLINE void TransposeLanes(__m512i (&v)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // Vector 4 i + k has the columns k, k + 4, ... of the rows 4 i to 4 i + 3.
  for (int k = 0; k < 4; ++k) {
    t[k] = _mm512_shuffle_i32x4(v[k], v[k + 4], 0x88);
    t[k + 4] = _mm512_shuffle_i32x4(v[k], v[k + 4], 0xdd);
    t[k + 8] = _mm512_shuffle_i32x4(v[k + 8], v[k + 12], 0x88);
    t[k + 12] = _mm512_shuffle_i32x4(v[k + 8], v[k + 12], 0xdd);
  }
  for (int k = 0; k < 4; ++k) {
    v[k] = _mm512_shuffle_i32x4(t[k], t[k + 8], 0x88);
    v[k + 8] = _mm512_shuffle_i32x4(t[k], t[k + 8], 0xdd);
    v[k + 4] = _mm512_shuffle_i32x4(t[k + 4], t[k + 12], 0x88);
    v[k + 12] = _mm512_shuffle_i32x4(t[k + 4], t[k + 12], 0xdd);
  }
}

// Prefetches the line i from p on. A tile asks for as many lines as it reads,
// of the next one in the order of memory: of the rows where it is itself, it
// read at 0.9 of that speed. What is behind the last is another thread's.
MOBE_INLINE void AskAhead(const BFloat16* p, int64_t i) {
  _mm_prefetch(p + 32 * i, _MM_HINT_T0);
}

MOBE_TARGET void PackBlock(const BFloat16* rows, int64_t stride, int64_t pairs,
                           BFloat16* to) {
  for (int64_t p = 0; p < pairs; p += 16) {
    const int64_t count = std::min<int64_t>(16, pairs - p);
    const auto mask = static_cast<__mmask16>((1u << count) - 1);
    __m512i v[16];
    for (int t = 0; t < 16; ++t) {
      v[t] = _mm512_maskz_loadu_epi32(mask, rows + t * stride + 2 * p);
    }
    TransposeLanes(v);
    for (int64_t i = 0; i < count; ++i) {
      _mm512_storeu_si512(to + (p + i) * 2 * kLaneTokens, v[i]);
    }
  }
}

// kRows rows, from row `first` on, by kBlocks blocks of tokens, one or two,
// from `block` on. Rows past the last are that one again, and not stored.
template <int64_t kBlocks>
MOBE_TARGET void MultiplyTile(const BFloat16* w, int64_t rows, int64_t first,
                              const TokenLanes& x, int64_t block, float* y,
                              int64_t y_stride) {
  const BFloat16* row[kRows];
  for (int64_t r = 0; r < kRows; ++r) {
    row[r] = w + std::min(first + r, rows - 1) * x.inputs;
  }
  const BFloat16* in = x.values + block * x.block_size();
  __m512 sums[kBlocks][kRows];
  for (auto& of_block : sums) {
    for (__m512& sum : of_block) sum = _mm512_setzero_ps();
  }
  const auto add = [&](int64_t pair, const auto& weights) MOBE_TARGET {
    __m512bh inputs[kBlocks];
    for (int64_t b = 0; b < kBlocks; ++b) {
      inputs[b] = reinterpret_cast<__m512bh>(
          _mm512_loadu_si512(in + b * x.block_size() + pair * 2 * kLaneTokens));
    }
    for (int64_t r = 0; r < kRows; ++r) {
      const auto both =
          reinterpret_cast<__m512bh>(_mm512_set1_epi32(weights(r)));
      for (int64_t b = 0; b < kBlocks; ++b) {
        sums[b][r] = _mm512_dpbf16_ps(sums[b][r], both, inputs[b]);
      }
    }
  };
  const int64_t pairs = x.inputs / 2;
  const bool asks_ahead = first + kRows < rows;
  for (int64_t p = 0; p < pairs; ++p) {
    if (p % 16 == 0 && asks_ahead) {
      for (int64_t r = 0; r < kRows; ++r) {
        AskAhead(row[0] + kRows * (x.inputs + 2 * p), r);
      }
    }
    add(p, [&](int64_t r) {
      int32_t both = 0;
      __builtin_memcpy(&both, row[r] + 2 * p, sizeof(both));
      return both;
    });
  }
  if (x.inputs % 2 != 0) {
    add(pairs, [&](int64_t r) -> int32_t { return row[r][x.inputs - 1].bits; });
  }
  // Lanes to rows: those of token t of block b lie side by side.
  __m512i v[16] = {};
  for (int64_t b = 0; b < kBlocks; ++b) {
    for (int64_t r = 0; r < kRows; ++r) {
      v[b * kRows + r] = _mm512_castps_si512(sums[b][r]);
    }
  }
  TransposeLanes(v);
  const int64_t count = std::min<int64_t>(kRows, rows - first);
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  for (int64_t b = 0; b < kBlocks; ++b) {
    const int64_t token = (block + b) * kLaneTokens;
    const int64_t tokens = std::min(kLaneTokens, x.tokens - token);
    for (int64_t t = 0; t < tokens; ++t) {
      // Their first is in lane b kRows; what is before is not written.
      _mm512_mask_storeu_epi32(y + (token + t) * y_stride + first - b * kRows,
                               static_cast<__mmask16>(mask << (b * kRows)),
                               v[t]);
    }
  }
}

// The 16 rows from `first` on by kTokens tokens from `token` on. Rows past the
// last are as above.
template <int64_t kTokens>
MOBE_TARGET void MultiplySome(const BFloat16* w, int64_t rows, int64_t first,
                              const TokenLanes& x, int64_t token, float* y,
                              int64_t y_stride) {
  constexpr int64_t kStep = 32;  // weights of a vector
  const BFloat16* row[16];
  for (int r = 0; r < 16; ++r) {
    row[r] = w + std::min(first + r, rows - 1) * x.inputs;
  }
  const BFloat16* in = x.values + token * x.pairs() * 2;
  __m512 sums[kTokens];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  const auto add = [&](int64_t c, __m512i weights) MOBE_TARGET {
    for (int64_t t = 0; t < kTokens; ++t) {
      int32_t both = 0;
      __builtin_memcpy(&both, in + t * x.pairs() * 2 + c, sizeof(both));
      sums[t] =
          _mm512_dpbf16_ps(sums[t], reinterpret_cast<__m512bh>(weights),
                           reinterpret_cast<__m512bh>(_mm512_set1_epi32(both)));
    }
  };
  __m512i v[16];
  int64_t c = 0;
  const bool asks_ahead = first + 16 < rows;
  for (; c + kStep <= x.inputs; c += kStep) {
    for (int r = 0; r < 16; ++r) {
      v[r] = _mm512_loadu_si512(row[r] + c);
      if (asks_ahead) AskAhead(row[0] + 16 * (x.inputs + c), r);
    }
    TransposeLanes(v);
    for (int64_t p = 0; p < 16; ++p) add(c + 2 * p, v[p]);
  }
  if (c < x.inputs) {
    const auto mask = static_cast<__mmask32>((1u << (x.inputs - c)) - 1);
    for (int r = 0; r < 16; ++r) {
      v[r] = _mm512_maskz_loadu_epi16(mask, row[r] + c);
    }
    TransposeLanes(v);
    for (int64_t p = 0; c + 2 * p < x.inputs; ++p) add(c + 2 * p, v[p]);
  }
  const auto mask =
      static_cast<__mmask16>((1u << std::min<int64_t>(16, rows - first)) - 1);
  for (int64_t t = 0; t < kTokens; ++t) {
    _mm512_mask_storeu_ps(y + (token + t) * y_stride + first, mask, sums[t]);
  }
}

// The same by all tokens from `token` on, kTokens at a time, then half as many.
template <int64_t kTokens>
void MultiplyFew(const BFloat16* w, int64_t rows, int64_t first,
                 const TokenLanes& x, int64_t token, float* y,
                 int64_t y_stride) {
  for (; token + kTokens <= x.tokens; token += kTokens) {
    MultiplySome<kTokens>(w, rows, first, x, token, y, y_stride);
  }
  if constexpr (kTokens > 1) {
    MultiplyFew<kTokens / 2>(w, rows, first, x, token, y, y_stride);
  }
}

}  // namespace

bool HasTokenLanes() {
  static const bool has = __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512bf16");
  return has && std::string_view(Kernels().name).starts_with("avx3");
}

void TokenLanes::Pack(const float* x, int64_t block) const {
  const int64_t first = block * kLaneTokens;
  const int64_t count = std::min(kLaneTokens, tokens - first);
  const int64_t stride = pairs() * 2;
  const auto round = [&](BFloat16* to) {
    for (int64_t t = 0; t < count; ++t) {
      to[(t + 1) * stride - 1] = {0};
      Kernels().to_bfloat16(x + (first + t) * inputs, inputs, to + t * stride);
    }
  };
  if (few()) return round(values);
  thread_local Buffer<BFloat16> rounded;
  rounded.Resize(kLaneTokens * stride);
  round(rounded.data());
  std::fill(rounded.begin() + count * stride, rounded.end(), BFloat16{0});
  PackBlock(rounded.data(), stride, pairs(), values + block * block_size());
}

void MultiplyTokenLanes(const BFloat16* w, int64_t rows, const TokenLanes& x,
                        float* y, int64_t y_stride) {
  if (x.few()) {
    for (int64_t r = 0; r < rows; r += 16) {
      MultiplyFew<kFewTokens>(w, rows, r, x, 0, y, y_stride);
    }
    return;
  }
  int64_t block = 0;
  for (; block + 2 <= x.blocks(); block += 2) {
    for (int64_t r = 0; r < rows; r += kRows) {
      MultiplyTile<2>(w, rows, r, x, block, y, y_stride);
    }
  }
  if (block == x.blocks()) return;
  for (int64_t r = 0; r < rows; r += kRows) {
    MultiplyTile<1>(w, rows, r, x, block, y, y_stride);
  }
}

#else

bool HasTokenLanes() { return false; }
void TokenLanes::Pack(const float*, int64_t) const {}
void MultiplyTokenLanes(const BFloat16*, int64_t, const TokenLanes&, float*,
                        int64_t) {}

#endif

}  // namespace mobe
