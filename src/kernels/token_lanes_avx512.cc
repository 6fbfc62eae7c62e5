// AVX-512 BF16: a token in each lane, whose pairs of inputs vdpbf16ps
// multiplies by a pair of weights, the same for all lanes.
//
// With up to kFewTokens there is a row in each lane instead: weights are
// transposed on their way, which takes fewer instructions than reading them
// takes time, and meet a token's pair, the same for all lanes. Either way sums
// are over the pairs in their order.
//
// Of [64, 2048] that is not in a cache oneDNN did 193, 274 and 477 GFLOP/s for
// 16, 32 and 512 tokens, and this does 346, 517 and 512 (one thread, Zen 5,
// oneDNN 2.6).
#if defined(__x86_64__)

#include <algorithm>

#include "kernels/token_lanes_internal.h"

#define MOBE_TARGET __attribute__((target("avx512f,avx512bw,avx512bf16")))
#define MOBE_INLINE \
  __attribute__((target("avx512f,avx512bw,avx512bf16"), always_inline)) inline

namespace mobe {
namespace {

// Rows of a tile. Not 16 with one block of tokens: rows of 2048 weights lie a
// page apart, and so all in one set of the first cache, which has 12 places.
constexpr int64_t kRows = 8;

// Prefetches the line i from p on. A tile asks for as many lines as it reads,
// of the next one in the order of memory: of the rows where it is itself, it
// read at 0.9 of that speed. What is behind the last is another thread's.
MOBE_INLINE void AskAhead(const BFloat16* p, int64_t i) {
  _mm_prefetch(p + 32 * i, _MM_HINT_T0);
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
  const BFloat16* in = x.Block(block);
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
  const int64_t lanes = x.lanes();
  const BFloat16* in = x.values + 2 * token;
  __m512 sums[kTokens];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  const auto add = [&](int64_t c, __m512i weights) MOBE_TARGET {
    for (int64_t t = 0; t < kTokens; ++t) {
      int32_t both = 0;
      __builtin_memcpy(&both, in + c * lanes + 2 * t, sizeof(both));
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

MOBE_TARGET void PackLanes(const BFloat16* rows, int64_t pairs, int64_t lanes,
                           BFloat16* to) {
  const auto stored = static_cast<__mmask16>((1u << lanes) - 1);
  for (int64_t p = 0; p < pairs; p += 16) {
    __m512i v[16];
    for (int t = 0; t < 16; ++t) {
      v[t] = _mm512_loadu_si512(rows + 2 * (t * pairs + p));
    }
    TransposeLanes(v);
    for (int64_t i = 0; i < 16; ++i) {
      _mm512_mask_storeu_epi32(to + (p + i) * 2 * lanes, stored, v[i]);
    }
  }
}

void MultiplyLanesAvx512(const BFloat16* w, int64_t rows, const TokenLanes& x,
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

}  // namespace mobe

#endif  // __x86_64__
