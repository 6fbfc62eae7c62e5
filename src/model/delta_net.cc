#include "model/delta_net.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "kernels/kernels.h"
#include "model/token_grain.h"

namespace mobe {
namespace {

// The rows of a sequence, with its state of this layer.
struct StatefulRows {
  int64_t first, count;
  float* recent;    // [window - 1, channels]
  float* matrices;  // [value_heads, key_dim, value_dim]
};

// A token's inputs and rates, which lie by key heads.
void SplitKeyHeads(const DeltaSizes& n, int64_t token, DeltaScratch* s) {
  const int64_t group = n.value_heads / n.key_heads;
  const float* from = s->inputs.data() + token * (n.channels() + n.values());
  const float* rate = s->rates.data() + token * 2 * n.value_heads;
  float* query = s->mixed.data() + token * n.channels();
  float* key = query + n.keys();
  float* value = key + n.keys();
  float* gate = s->gate.data() + token * n.values();
  float* beta = s->beta.data() + token * n.value_heads;
  float* decay = s->decay.data() + token * n.value_heads;
  const auto take = [](int64_t count, const float** source, float** to) {
    *to = std::copy_n(*source, count, *to);
    *source += count;
  };
  for (int64_t head = 0; head < n.key_heads; ++head) {
    take(n.key_dim, &from, &query);
    take(n.key_dim, &from, &key);
    take(group * n.value_dim, &from, &value);
    take(group * n.value_dim, &from, &gate);
    take(group, &rate, &beta);
    take(group, &rate, &decay);
  }
}

// s->mixed, gate, beta and decay.
void ProjectDelta(const DeltaSizes& n, const DeltaWeights& w,
                  const Arithmetic& math, const float* x, int64_t tokens,
                  DeltaScratch* s) {
  s->mixed.Resize(tokens * n.channels());
  s->gate.Resize(tokens * n.values());
  s->beta.Resize(tokens * n.value_heads);
  s->decay.Resize(tokens * n.value_heads);
  if (w.inputs.rows == 0) {
    const LinearJob jobs[] = {{w.query_key_value, x, tokens, s->mixed.data()},
                              {w.gate, x, tokens, s->gate.data()},
                              {w.beta, x, tokens, s->beta.data()},
                              {w.decay, x, tokens, s->decay.data()}};
    LinearBatch(jobs, math);
    return;
  }
  s->inputs.Resize(tokens * w.inputs.rows);
  s->rates.Resize(tokens * w.rates.rows);
  const LinearJob jobs[] = {{w.inputs, x, tokens, s->inputs.data()},
                            {w.rates, x, tokens, s->rates.data()}};
  LinearBatch(jobs, math);
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) SplitKeyHeads(n, t, s);
  });
}

// The channels [begin, end) of s->convolved, and of what is kept of s->mixed.
void ConvolveChannels(const DeltaSizes& n, const DeltaWeights& w,
                      const StatefulRows& rows, int64_t begin, int64_t end,
                      DeltaScratch* s) {
  const int64_t channels = n.channels();
  const int64_t past = n.window - 1;
  // Of a token of these rows, or (below 0) of those before.
  const auto input = [&](int64_t token) -> const float* {
    return token < 0 ? rows.recent + (past + token) * channels
                     : s->mixed.data() + (rows.first + token) * channels;
  };
  for (int64_t t = 0; t < rows.count; ++t) {
    float* to = s->convolved.data() + (rows.first + t) * channels;
    std::fill(to + begin, to + end, 0.0f);
    for (int64_t i = 0; i < n.window; ++i) {
      const float* from = input(t - past + i);
      const float* weight = w.convolution.data() + i * channels;
      for (int64_t c = begin; c < end; ++c) to[c] += weight[c] * from[c];
    }
    Kernels().activate(Activation::kSilu, to + begin, end - begin, to + begin);
  }
  // Upwards: a row comes from one that is not written yet.
  for (int64_t i = 0; i < past; ++i) {
    const float* from = input(rows.count - past + i);
    std::copy(from + begin, from + end, rows.recent + i * channels + begin);
  }
}

// y = x scaled to the given length.
void ScaleToLength(const float* x, int64_t count, float length, float* y) {
  constexpr float kEps = 1e-6f;  // as in transformers' l2norm
  float squares = 0;
  for (int64_t i = 0; i < count; ++i) squares += x[i] * x[i];
  const float scale = length / std::sqrt(squares + kEps);
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] * scale;
}

float Softplus(float x) { return x > 20 ? x : std::log1p(std::exp(x)); }

// A value head's part of the context, and its state.
void RunHead(const ModelConfig& c, const DeltaWeights& w,
             const StatefulRows& rows, int64_t head, const DeltaScratch& s,
             float* context) {
  thread_local Buffer<float> query;
  thread_local Buffer<float> key;
  thread_local Buffer<float> change;
  const DeltaSizes& n = c.delta;
  query.Resize(n.key_dim);
  key.Resize(n.key_dim);
  change.Resize(n.value_dim);
  const float query_length = 1 / std::sqrt(static_cast<float>(n.key_dim));
  const int64_t key_head = head / (n.value_heads / n.key_heads);
  const int64_t size = n.key_dim * n.value_dim;
  float* state = rows.matrices + head * size;
  const TileView state_tile = {DType::kF32, state, n.value_dim};
  const TileView change_tile = {DType::kF32, change.data(), n.value_dim};
  // to [value_dim] += S^T x
  const auto add_found = [&](const Buffer<float>& x, float* to) {
    Kernels().add_products(1, n.key_dim, n.value_dim, x.data(), n.key_dim,
                           state_tile, to, n.value_dim);
  };
  for (int64_t t = rows.first; t < rows.first + rows.count; ++t) {
    const float* mixed = s.convolved.data() + t * n.channels();
    const float* value = mixed + 2 * n.keys() + head * n.value_dim;
    ScaleToLength(mixed + key_head * n.key_dim, n.key_dim, query_length,
                  query.data());
    ScaleToLength(mixed + n.keys() + key_head * n.key_dim, n.key_dim, 1,
                  key.data());
    const auto h = static_cast<size_t>(head);
    const int64_t rate = t * n.value_heads + head;
    const float beta = 1 / (1 + std::exp(-s.beta[rate]));
    const float kept =
        std::exp(w.decay_scale[h] * Softplus(s.decay[rate] + w.decay_bias[h]));
    for (int64_t i = 0; i < size; ++i) state[i] *= kept;
    std::ranges::fill(change, 0.0f);
    add_found(key, change.data());
    for (int64_t i = 0; i < n.value_dim; ++i) {
      change[i] = beta * (value[i] - change[i]);
    }
    Kernels().add_products(n.key_dim, 1, n.value_dim, key.data(), 1,
                           change_tile, state, n.value_dim);
    float* out = context + t * n.values() + head * n.value_dim;
    std::fill_n(out, n.value_dim, 0.0f);
    add_found(query, out);
    Kernels().rms_norm(w.norm.data(), c.rms_norm_eps, out, n.value_dim, out);
    Kernels().swiglu(s.gate.data() + t * n.values() + head * n.value_dim, out,
                     n.value_dim, out);
  }
}

int64_t RecentFloats(const DeltaSizes& n) {
  return (n.window - 1) * n.channels();
}

}  // namespace

int64_t StateFloats(const DeltaSizes& sizes) {
  return RecentFloats(sizes) +
         sizes.value_heads * sizes.key_dim * sizes.value_dim;
}

void RunDeltaNet(const ModelConfig& c, const DeltaWeights& w,
                 const Arithmetic& math, int64_t layer, const float* x,
                 std::span<const SequenceRows> sequences, DeltaScratch* s,
                 float* context) {
  const DeltaSizes& n = c.delta;
  const int64_t tokens = sequences.back().first + sequences.back().count;
  ProjectDelta(n, w, math, x, tokens, s);
  std::vector<StatefulRows> all;
  for (const SequenceRows& rows : sequences) {
    float* state = rows.cache->State(layer);
    all.push_back({rows.first, rows.count, state, state + RecentFloats(n)});
  }
  s->convolved.Resize(tokens * n.channels());
  constexpr int64_t kGrain = 256;
  ParallelRanges(n.channels(), kGrain, [&](int64_t begin, int64_t end) {
    for (const StatefulRows& rows : all) {
      ConvolveChannels(n, w, rows, begin, end, s);
    }
  });
  ParallelFor(std::ssize(all) * n.value_heads, [&](int64_t i) {
    RunHead(c, w, all[static_cast<size_t>(i / n.value_heads)],
            i % n.value_heads, *s, context);
  });
}

}  // namespace mobe
