#include <algorithm>

#include "base/parallel.h"
#include "model/attention.h"
#include "model/causal_softmax.h"
#include "model/norm.h"
#include "model/token_grain.h"

namespace mobe {
namespace {

// Rows of scores (query tokens times the heads that share a key head) that one
// task computes: enough for a product to run well, and a bound on its memory
// of kScoreRows * context floats.
constexpr int64_t kScoreRows = 64;

void AddBias(const std::vector<float>& bias, float* row) {
  for (size_t j = 0; j < bias.size(); ++j) row[j] += bias[j];
}

// Biases, norms and rotation of one row's token; queries stay where they are,
// keys and values go to the cache's `position`.
void FinishToken(const ModelConfig& c, const AttentionWeights& w,
                 const RopeTable& rope, int64_t layer, int64_t token,
                 int64_t position, KvCache* cache, AttentionScratch* s) {
  float* query = s->query.data() + token * c.num_heads * c.head_dim;
  float* key = s->key.data() + token * c.num_kv_heads * c.head_dim;
  float* value = s->value.data() + token * c.num_kv_heads * c.head_dim;
  AddBias(w.query_bias, query);
  AddBias(w.key_bias, key);
  AddBias(w.value_bias, value);
  if (!w.query_norm.empty()) {
    RmsNorm(w.query_norm, c.rms_norm_eps, query, c.num_heads, query);
    RmsNorm(w.key_norm, c.rms_norm_eps, key, c.num_kv_heads, key);
  }
  for (int64_t h = 0; h < c.num_heads; ++h) {
    rope.Rotate(token, query + h * c.head_dim);
  }
  const int64_t at = position * c.head_dim;
  for (int64_t h = 0; h < c.num_kv_heads; ++h) {
    rope.Rotate(token, key + h * c.head_dim);
    std::copy_n(key + h * c.head_dim, c.head_dim, cache->Keys(layer, h) + at);
    std::copy_n(value + h * c.head_dim, c.head_dim,
                cache->Values(layer, h) + at);
  }
}

// The attention of a sequence's tokens [begin, end), whose token 0 is row
// `first` of the batch, in the heads that share one key head. Those heads'
// queries become rows of one product, so that keys and values are read once for
// all of them.
void AttendBlock(const ModelConfig& c, int64_t layer, int64_t kv_head,
                 int64_t first, int64_t begin, int64_t end, KvCache* cache,
                 AttentionScratch* s) {
  thread_local Buffer<float> query;
  thread_local Buffer<float> scores;
  thread_local Buffer<float> context;
  const int64_t group = c.num_heads / c.num_kv_heads;
  const int64_t rows = (end - begin) * group;
  const int64_t keys = cache->length() + end;
  const int64_t d = c.head_dim;
  query.Resize(rows * d);
  scores.Resize(rows * keys);
  context.Resize(rows * d);
  const auto place = [&](int64_t token) {  // of the group's first head
    return ((first + token) * c.num_heads + kv_head * group) * d;
  };
  const float scale = c.attention_scale;
  for (int64_t t = begin; t < end; ++t) {
    std::transform(s->query.data() + place(t),
                   s->query.data() + place(t) + group * d,
                   query.data() + (t - begin) * group * d,
                   [scale](float q) { return q * scale; });
  }
  Gemm(Trans::kNo, Trans::kYes, rows, keys, d, query.data(), d,
       cache->Keys(layer, kv_head), d, 0.0f, scores.data(), keys);
  for (int64_t r = 0; r < rows; ++r) {
    CausalSoftmax(scores.data() + r * keys,
                  cache->length() + begin + r / group + 1, keys);
  }
  Gemm(Trans::kNo, Trans::kNo, rows, d, keys, scores.data(), keys,
       cache->Values(layer, kv_head), d, 0.0f, context.data(), d);
  for (int64_t t = begin; t < end; ++t) {
    std::copy_n(context.data() + (t - begin) * group * d, group * d,
                s->context.data() + place(t));
  }
}

}  // namespace

namespace internal {

void ProjectGrouped(const AttentionWeights& w, Precision precision,
                    const float* x, int64_t tokens, AttentionScratch* s) {
  s->query.Resize(tokens * w.query.rows);
  s->key.Resize(tokens * w.key.rows);
  s->value.Resize(tokens * w.value.rows);
  const LinearJob inputs[] = {{w.query, x, tokens, s->query.data()},
                              {w.key, x, tokens, s->key.data()},
                              {w.value, x, tokens, s->value.data()}};
  LinearBatch(inputs, precision);
}

void AttendGrouped(const ModelConfig& c, const AttentionWeights& w,
                   const RopeTable& rope, Precision, int64_t layer,
                   const SequenceRows& rows, AttentionScratch* s) {
  ParallelRanges(rows.count, kTokenGrain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      FinishToken(c, w, rope, layer, rows.first + t, rows.cache->length() + t,
                  rows.cache, s);
    }
  });
  const int64_t group = c.num_heads / c.num_kv_heads;
  const int64_t block = std::max<int64_t>(1, kScoreRows / group);
  const int64_t blocks = (rows.count + block - 1) / block;
  ParallelFor(c.num_kv_heads * blocks, [&](int64_t i) {
    const int64_t begin = i / c.num_kv_heads * block;
    AttendBlock(c, layer, i % c.num_kv_heads, rows.first, begin,
                std::min(rows.count, begin + block), rows.cache, s);
  });
}

}  // namespace internal

}  // namespace mobe
