// Multi-head latent attention. The cache holds, for each token, the latent
// vector c (kv_rank numbers, normed) and one rotated key, which all heads
// share: 576 numbers in DeepSeek-V3, where keys and values of its 128 heads
// would be 40,960. A head h has the keys U_h c and the values V_h c, where U_h
// and V_h are rows of kv_b_proj. There are two ways to the same sums:
//
// expanded  The keys and values of a head are computed from the cache, and
//           attended to as usual.
// absorbed  q (U_h c) = (U_h^T q) c: queries are brought into the latent space,
//           where all heads have the same keys, c, and the same values, c; V_h
//           is applied to what comes out. Nothing is expanded, but a product
//           has kv_rank numbers in place of a key's.
//
// Which one takes fewer operations depends on how many tokens share the
// expansion: absorbed at decode, expanded in prefill.
#include <algorithm>

#include "base/parallel.h"
#include "kernels/expand.h"
#include "model/attention.h"
#include "model/causal_softmax.h"
#include "model/norm.h"
#include "model/token_grain.h"

namespace mobe::internal {
namespace {

// Of the norms of the low-rank vectors; their modules are made without the
// config's value.
constexpr float kLatentEps = 1e-6f;
// Query rows that one task attends with: a bound on its memory of kRows *
// context floats, and small enough that the heads of one token are several
// tasks.
constexpr int64_t kRows = 16;

// The sizes of one call.
struct Sizes {
  int64_t tokens, heads, kv_rank, nope, rotated, value;
  int64_t seen;  // tokens in the cache before these

  int64_t keys() const { return seen + tokens; }
  int64_t row() const { return kv_rank + rotated; }  // of the cache
};

// s->query = the queries, before their rotation.
void ProjectQueries(const AttentionWeights& w, Precision precision,
                    const float* x, int64_t tokens, AttentionScratch* s) {
  s->query.Resize(tokens * w.query.rows);
  if (w.query_down.rows == 0) {
    const LinearJob jobs[] = {{w.query, x, tokens, s->query.data()},
                              {w.latent_down, x, tokens, s->latent.data()}};
    LinearBatch(jobs, precision);
    return;
  }
  s->query_down.Resize(tokens * w.query_down.rows);
  const LinearJob jobs[] = {{w.query_down, x, tokens, s->query_down.data()},
                            {w.latent_down, x, tokens, s->latent.data()}};
  LinearBatch(jobs, precision);
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    float* rows = s->query_down.data() + begin * w.query_down.rows;
    RmsNorm(w.query_down_norm, kLatentEps, rows, end - begin, rows);
  });
  Linear(w.query, s->query_down.data(), tokens, precision, s->query.data());
}

// Rotates queries and key of one token, which is row `first` + token of the
// batch; the queries go to s->nope and s->rotated, by heads and scaled, key and
// latent vector to the cache.
void FinishToken(const ModelConfig& c, const AttentionWeights& w,
                 const RopeTable& rope, const Sizes& n, int64_t first,
                 int64_t token, float* cached, AttentionScratch* s) {
  const float scale = c.attention_scale;
  for (int64_t h = 0; h < n.heads; ++h) {
    float* query =
        s->query.data() + ((first + token) * n.heads + h) * c.head_dim;
    const int64_t row = h * n.tokens + token;
    rope.Rotate(first + token, query + n.nope);
    std::transform(query, query + n.nope, s->nope.data() + row * n.nope,
                   [scale](float q) { return q * scale; });
    std::transform(query + n.nope, query + c.head_dim,
                   s->rotated.data() + row * n.rotated,
                   [scale](float q) { return q * scale; });
  }
  const float* latent = s->latent.data() + (first + token) * n.row();
  RmsNorm(w.latent_norm, kLatentEps, latent, 1, cached);
  std::copy_n(latent + n.kv_rank, n.rotated, cached + n.kv_rank);
  rope.Rotate(first + token, cached + n.kv_rank);
}

// A matrix of floats in memory.
struct Rows {
  const float* data;
  int64_t stride;  // of rows
  int64_t cols;
};

// context [rows, values.cols] = the attention of query rows, of which row r is
// of token (first + r) % tokens, to `keys` and the rotated keys of the cache.
void AttendRows(const Sizes& n, int64_t first, int64_t rows, const Rows& query,
                const Rows& rotated, const Rows& keys, const Rows& rotated_keys,
                const Rows& values, float* context) {
  thread_local Buffer<float> scores;
  // The last token of the rows is the last one that any of them sees.
  int64_t last = 0;
  for (int64_t r = 0; r < rows; ++r) {
    last = std::max(last, (first + r) % n.tokens);
  }
  const int64_t count = n.seen + last + 1;
  scores.Resize(rows * count);
  Gemm(Trans::kNo, Trans::kYes, rows, count, query.cols, query.data,
       query.stride, keys.data, keys.stride, 0.0f, scores.data(), count);
  Gemm(Trans::kNo, Trans::kYes, rows, count, rotated.cols, rotated.data,
       rotated.stride, rotated_keys.data, rotated_keys.stride, 1.0f,
       scores.data(), count);
  for (int64_t r = 0; r < rows; ++r) {
    CausalSoftmax(scores.data() + r * count,
                  n.seen + (first + r) % n.tokens + 1, count);
  }
  Gemm(Trans::kNo, Trans::kNo, rows, values.cols, count, scores.data(), count,
       values.data, values.stride, 0.0f, context, values.cols);
}

// U_h and V_h.
WeightView KeyRows(const AttentionWeights& w, const Sizes& n, int64_t head) {
  return w.latent_up.Rows(head * (n.nope + n.value), n.nope);
}
WeightView ValueRows(const AttentionWeights& w, const Sizes& n, int64_t head) {
  return w.latent_up.Rows(head * (n.nope + n.value) + n.nope, n.value);
}

void AttendAbsorbed(const AttentionWeights& w, const Sizes& n,
                    Precision precision, const float* cache,
                    AttentionScratch* s) {
  const int64_t rows = n.heads * n.tokens;
  s->latent_query.Resize(rows * n.kv_rank);
  s->latent_context.Resize(rows * n.kv_rank);
  s->jobs.clear();
  for (int64_t h = 0; h < n.heads; ++h) {
    s->jobs.push_back(
        {KeyRows(w, n, h), s->nope.data() + h * n.tokens * n.nope, n.tokens,
         s->latent_query.data() + h * n.tokens * n.kv_rank, Trans::kYes});
  }
  LinearBatch(s->jobs, precision);
  const Rows latents{cache, n.row(), n.kv_rank};
  const Rows rotated_keys{cache + n.kv_rank, n.row(), n.rotated};
  ParallelRanges(rows, kRows, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * n.kv_rank;
    AttendRows(n, begin, end - begin,
               {s->latent_query.data() + at, n.kv_rank, n.kv_rank},
               {s->rotated.data() + begin * n.rotated, n.rotated, n.rotated},
               latents, rotated_keys, latents, s->latent_context.data() + at);
  });
  s->jobs.clear();
  for (int64_t h = 0; h < n.heads; ++h) {
    s->jobs.push_back({ValueRows(w, n, h),
                       s->latent_context.data() + h * n.tokens * n.kv_rank,
                       n.tokens,
                       s->head_context.data() + h * n.tokens * n.value});
  }
  LinearBatch(s->jobs, precision);
}

// to [keys, w.rows] = the cached latent vectors times w^T.
void Expand(const WeightView& w, const Sizes& n, const float* cache,
            Buffer<float>* to) {
  thread_local Buffer<float> weights;
  weights.Resize(w.rows * w.cols);
  ExpandWeights(w, weights.data());
  to->Resize(n.keys() * w.rows);
  Gemm(Trans::kNo, Trans::kYes, n.keys(), w.rows, w.cols, cache, n.row(),
       weights.data(), w.cols, 0.0f, to->data(), w.rows);
}

void AttendExpanded(const AttentionWeights& w, const Sizes& n,
                    const float* cache, AttentionScratch* s) {
  const Rows rotated_keys{cache + n.kv_rank, n.row(), n.rotated};
  // A head at a time in each thread, which bounds what is expanded at once.
  ParallelFor(n.heads, [&](int64_t h) {
    thread_local Buffer<float> keys;
    thread_local Buffer<float> values;
    Expand(KeyRows(w, n, h), n, cache, &keys);
    Expand(ValueRows(w, n, h), n, cache, &values);
    for (int64_t begin = 0; begin < n.tokens; begin += kRows) {
      const int64_t first = h * n.tokens + begin;
      AttendRows(n, first, std::min(kRows, n.tokens - begin),
                 {s->nope.data() + first * n.nope, n.nope, n.nope},
                 {s->rotated.data() + first * n.rotated, n.rotated, n.rotated},
                 {keys.data(), n.nope, n.nope}, rotated_keys,
                 {values.data(), n.value, n.value},
                 s->head_context.data() + first * n.value);
    }
  });
}

// Does the absorbed form take fewer multiplications for a head?
bool AbsorbedIsLess(const Sizes& n) {
  const auto tokens = static_cast<double>(n.tokens);
  const auto keys = static_cast<double>(n.keys());
  const auto rank = static_cast<double>(n.kv_rank);
  const auto up = static_cast<double>(n.nope + n.value);
  return tokens * rank * up + tokens * keys * 2 * rank <
         keys * rank * up + tokens * keys * up;
}

}  // namespace

void ProjectLatent(const AttentionWeights& w, Precision precision,
                   const float* x, int64_t tokens, AttentionScratch* s) {
  s->latent.Resize(tokens * w.latent_down.rows);
  ProjectQueries(w, precision, x, tokens, s);
}

void AttendLatent(const ModelConfig& c, const AttentionWeights& w,
                  const RopeTable& rope, Precision precision, int64_t layer,
                  const SequenceRows& sequence, AttentionScratch* s) {
  const int64_t first = sequence.first;
  const int64_t tokens = sequence.count;
  const Sizes n{tokens,     c.num_heads, c.latent.kv_rank,        c.latent.nope,
                c.rope.dim, c.value_dim, sequence.cache->length()};
  const int64_t rows = n.heads * tokens;
  s->nope.Resize(rows * n.nope);
  s->rotated.Resize(rows * n.rotated);
  s->head_context.Resize(rows * n.value);
  float* latents = sequence.cache->Latents(layer);
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      FinishToken(c, w, rope, n, first, t, latents + (n.seen + t) * n.row(), s);
    }
  });
  if (AbsorbedIsLess(n)) {
    AttendAbsorbed(w, n, precision, latents, s);
  } else {
    AttendExpanded(w, n, latents, s);
  }
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = 0; h < n.heads; ++h) {
        std::copy_n(s->head_context.data() + (h * tokens + t) * n.value,
                    n.value,
                    s->context.data() + ((first + t) * n.heads + h) * n.value);
      }
    }
  });
}

}  // namespace mobe::internal
