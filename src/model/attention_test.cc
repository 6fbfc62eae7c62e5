// Attend against the formulas in double, with what the cache has of keys,
// values or latent vectors; that is checked against what went in by
// kv_cache_test.cc, and the whole against transformers by model_test.cc.
#include "model/attention.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <deque>
#include <random>

#include "base/parallel.h"
#include "model/norm.h"

namespace mobe {
namespace {

constexpr int64_t kHidden = 20;

// A layer of random weights.
class RandomLayer {
 public:
  static RandomLayer Grouped(int64_t kv_heads, int64_t group, int64_t dim) {
    RandomLayer layer;
    ModelConfig& c = layer.config;
    c.num_kv_heads = kv_heads;
    c.num_heads = kv_heads * group;
    c.head_dim = c.value_dim = c.rope.dim = dim;
    AttentionWeights& w = layer.weights;
    w.query = layer.Matrix(c.num_heads * dim, kHidden);
    w.key = layer.Matrix(kv_heads * dim, kHidden);
    w.value = layer.Matrix(kv_heads * dim, kHidden);
    w.query_bias = layer.Values(c.num_heads * dim);
    w.query_norm = layer.Values(dim);
    w.key_norm = layer.Values(dim);
    layer.Finish();
    return layer;
  }

  static RandomLayer Latent(int64_t heads) {
    RandomLayer layer;
    ModelConfig& c = layer.config;
    c.num_kv_heads = c.num_heads = heads;
    c.latent = {.kv_rank = 24, .query_rank = 0, .nope = 10};
    c.rope.dim = 6;
    c.rope.interleaved = true;
    c.head_dim = 16;
    c.value_dim = 9;
    AttentionWeights& w = layer.weights;
    w.query = layer.Matrix(heads * c.head_dim, kHidden);
    w.latent_down = layer.Matrix(30, kHidden);
    w.latent_norm = layer.Values(24);
    w.latent_up = layer.Matrix(heads * 19, 24);
    layer.Finish();
    return layer;
  }

  std::vector<float> Values(int64_t count) {
    std::normal_distribution<float> normal(0, 1);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random_);
    return values;
  }

  ModelConfig config;
  AttentionWeights weights;

 private:
  WeightView Matrix(int64_t rows, int64_t cols) {
    std::vector<float>& values = memory_.emplace_back(Values(rows * cols));
    for (float& v : values) v /= std::sqrt(static_cast<float>(cols));
    return {NumberFormat::kF32, values.data(), rows, cols};
  }
  void Finish() {
    config.num_layers = 2;
    config.hidden_size = kHidden;
    config.max_positions = 4000;
    config.rope.theta = 10'000;
    config.rms_norm_eps = 1e-6f;
    config.attention_scale = 1.5f;  // of scores that differ
    weights.output = Matrix(kHidden, config.num_heads * config.value_dim);
  }

  std::deque<std::vector<float>> memory_;
  std::mt19937 random_{5};
};

double Dot(const float* a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < b.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

// One token's vector of a part of layer 1.
std::vector<double> Cached(const KvCache& cache, int64_t part,
                           int64_t position) {
  const CacheLayout& l = cache.layout();
  const CachePart& p = l.parts[static_cast<size_t>(part)];
  const StoredTile tile = cache.Tile(1, part, position / kPageTokens);
  const int64_t token = position % kPageTokens;
  std::vector<double> values;
  for (int64_t i = 0; i < p.width; ++i) {
    const int64_t at = p.by_columns ? i * tile.numbers.stride + token
                                    : token * tile.numbers.stride + i;
    float number = 0;
    l.format.load(static_cast<const char*>(tile.numbers.data) +
                      at * DTypeSize(l.format.dtype),
                  1, &number);
    values.push_back(double{number} *
                     (tile.scales == nullptr ? 1 : tile.scales[token]));
  }
  return values;
}

// The keys and the values of a head, of every token in the cache.
struct KeysValues {
  std::vector<std::vector<double>> keys, values;
};

// Of each head of the cache: heads of queries share it, or have it made of the
// latent vectors.
std::vector<KeysValues> CachedHeads(const RandomLayer& layer,
                                    const KvCache& cache) {
  const ModelConfig& c = layer.config;
  std::vector<KeysValues> heads(static_cast<size_t>(c.num_kv_heads));
  for (int64_t k = 0; k < cache.length(); ++k) {
    if (!c.IsLatent()) {
      for (int64_t head = 0; head < c.num_kv_heads; ++head) {
        KeysValues& to = heads[static_cast<size_t>(head)];
        to.keys.push_back(Cached(cache, KvCache::Keys(head), k));
        to.values.push_back(Cached(cache, KvCache::Values(head), k));
      }
      continue;
    }
    const auto latent = Cached(cache, KvCache::kLatents, k);
    const auto rotated = Cached(cache, KvCache::kRotatedKeys, k);
    const int64_t up = c.latent.nope + c.value_dim;
    for (int64_t head = 0; head < c.num_kv_heads; ++head) {
      std::vector<double> key, value;
      for (int64_t i = 0; i < up; ++i) {
        const float* row = layer.weights.latent_up.Row<float>(head * up + i);
        (i < c.latent.nope ? key : value).push_back(Dot(row, latent));
      }
      key.insert(key.end(), rotated.begin(), rotated.end());
      KeysValues& to = heads[static_cast<size_t>(head)];
      to.keys.push_back(std::move(key));
      to.values.push_back(std::move(value));
    }
  }
  return heads;
}

// What Attend should make of x, the token at `position`.
std::vector<double> Expected(const RandomLayer& layer,
                             const std::vector<KeysValues>& heads,
                             const float* x, int64_t position) {
  const ModelConfig& c = layer.config;
  const AttentionWeights& w = layer.weights;
  RopeTable rope(c.rope);
  const int64_t positions[] = {position};
  rope.Prepare(positions);
  std::vector<double> context;
  for (int64_t head = 0; head < c.num_heads; ++head) {
    std::vector<float> query;
    for (int64_t i = 0; i < c.head_dim; ++i) {
      const int64_t row = head * c.head_dim + i;
      double sum = 0;
      for (int64_t j = 0; j < kHidden; ++j) {
        sum += double{w.query.Row<float>(row)[j]} * x[j];
      }
      if (!w.query_bias.empty()) {
        sum += double{w.query_bias[static_cast<size_t>(row)]};
      }
      query.push_back(static_cast<float>(sum));
    }
    if (!w.query_norm.empty()) {
      RmsNorm(w.query_norm, c.rms_norm_eps, query.data(), 1, query.data());
    }
    rope.Rotate(0, query.data() + c.latent.nope);
    std::vector<double> attended(static_cast<size_t>(c.value_dim), 0.0);
    double sum = 0;
    const KeysValues& cached =
        heads[static_cast<size_t>(head / (c.num_heads / c.num_kv_heads))];
    for (size_t k = 0; k <= static_cast<size_t>(position); ++k) {
      const double weight = std::exp(Dot(query.data(), cached.keys[k]) *
                                     double{c.attention_scale});
      sum += weight;
      for (size_t i = 0; i < attended.size(); ++i) {
        attended[i] += weight * cached.values[k][i];
      }
    }
    for (const double value : attended) context.push_back(value / sum);
  }
  std::vector<double> y;
  for (int64_t i = 0; i < kHidden; ++i) {
    y.push_back(Dot(w.output.Row<float>(i), context));
  }
  return y;
}

// A sequence in layer 1 of a cache.
struct TestSequence {
  TestSequence(RandomLayer* l, const CacheFormat& format)
      : layer(l), cache(l->config, 2000, format) {}

  // Attends with `count` more tokens, a single one in decode; returns the
  // result.
  std::vector<float> Add(int64_t count) {
    const std::vector<float> more = layer->Values(count * kHidden);
    x.insert(x.end(), more.begin(), more.end());
    return Run(more, count == 1 ? Phase::kDecode : Phase::kPrefill);
  }
  std::vector<float> Run(std::span<const float> more,
                         Phase phase = Phase::kPrefill, int64_t before = 0,
                         int64_t after = 0) {
    const auto count = static_cast<int64_t>(more.size()) / kHidden;
    std::vector<int64_t> positions;
    for (int64_t t = 0; t < count; ++t) positions.push_back(cache.length() + t);
    RopeTable rope(layer->config.rope);
    rope.Prepare(positions);
    const SequenceRows rows{0, count, &cache, cache.length(), before, after};
    AttentionScratch scratch;
    std::vector<float> y(more.size());
    Attend(layer->config, layer->weights, rope, {phase}, 1, more.data(),
           {&rows, 1}, &scratch, y.data());
    cache.Append(count);
    return y;
  }
  // Holds the result of the last tokens against the formulas: of the first, the
  // last and one between.
  void Check(const std::vector<float>& y) const {
    const auto count = static_cast<int64_t>(y.size()) / kHidden;
    const int64_t first = cache.length() - count;
    const std::vector<KeysValues> heads = CachedHeads(*layer, cache);
    for (const int64_t t : {int64_t{0}, count / 2, count - 1}) {
      const auto want =
          Expected(*layer, heads, x.data() + (first + t) * kHidden, first + t);
      double norm = 0;
      double difference = 0;
      for (int64_t i = 0; i < kHidden; ++i) {
        const double w = want[static_cast<size_t>(i)];
        norm += w * w;
        difference += std::pow(w - y[static_cast<size_t>(t * kHidden + i)], 2);
      }
      // Scores are of size 20 or so, each off by their queries' and products'
      // roundings, and weights by as much.
      ASSERT_LT(std::sqrt(difference), 400 * FLT_EPSILON * std::sqrt(norm))
          << cache.layout().format.name << ", token " << first + t << " of "
          << count << " from " << first;
    }
  }

  RandomLayer* layer;
  KvCache cache;
  std::vector<float> x;
};

// Pages half full, chunks that begin anywhere, one token at a time, contexts of
// one piece and of several, few queries and many.
constexpr int64_t kChunks[] = {1, 2, 70, 1, 55, 3, 1, 130, 8, 1, 9, 300, 1, 4};

TEST(AttentionTest, GroupedIsWhatTheFormulasSay) {
  for (const CacheFormat& format : kCacheFormats) {
    for (int64_t group = 1; group <= 8; ++group) {
      RandomLayer layer =
          RandomLayer::Grouped(group % 2 + 1, group, group == 3 ? 22 : 16);
      TestSequence sequence(&layer, format);
      for (const int64_t count : kChunks) sequence.Check(sequence.Add(count));
    }
  }
}

TEST(AttentionTest, LatentIsWhatTheFormulasSay) {
  for (const CacheFormat& format : kCacheFormats) {
    for (const int64_t heads : {1, 3, 8}) {
      RandomLayer layer = RandomLayer::Latent(heads);
      TestSequence sequence(&layer, format);
      for (const int64_t count : kChunks) sequence.Check(sequence.Add(count));
    }
  }
}

TEST(AttentionTest, ThreadsDoNotChangeABit) {
  for (const CacheFormat& format : kCacheFormats) {
    for (const bool latent : {false, true}) {
      std::vector<float> one;
      for (const int threads : {1, 2, 5}) {
        SetThreads(threads);
        RandomLayer layer =
            latent ? RandomLayer::Latent(3) : RandomLayer::Grouped(2, 3, 16);
        TestSequence sequence(&layer, format);
        std::vector<float> all;
        for (const int64_t count : kChunks) {
          const std::vector<float> y = sequence.Add(count);
          all.insert(all.end(), y.begin(), y.end());
        }
        if (threads == 1) one = all;
        EXPECT_EQ(all, one) << threads;
      }
    }
  }
  SetThreads(0);
}

TEST(AttentionTest, ForksAttendAsTheWhole) {
  for (const CacheFormat& format : kCacheFormats) {
    for (const bool latent : {false, true}) {
      RandomLayer layer =
          latent ? RandomLayer::Latent(3) : RandomLayer::Grouped(2, 3, 16);
      TestSequence whole(&layer, format);
      whole.Add(300);
      TestSequence fork = whole;
      for (const int64_t tokens : {270, 256}) {
        fork.cache = whole.cache.Fork(tokens);
        fork.x.resize(static_cast<size_t>(tokens * kHidden));
        fork.Check(fork.Add(20));
      }
      const std::vector<float> y = whole.Add(5);
      whole.Check(y);
      // To the bit what it is without forks.
      RandomLayer again =
          latent ? RandomLayer::Latent(3) : RandomLayer::Grouped(2, 3, 16);
      TestSequence alone(&again, format);
      const std::span<const float> x(whole.x);
      alone.Run(x.first(300 * kHidden));
      EXPECT_EQ(alone.Run(x.subspan(300 * kHidden)), y);
    }
  }
}

// Sequences that attend together, to the bit, with contexts of all lengths: in
// decode, and of parts of prompts. Of these, the second absorbs what the others
// expand.
TEST(AttentionTest, BatchesAttendAsEachAlone) {
  struct Size {
    int64_t seen, count;
  };
  const std::vector<Size> decoded = {{70, 1}, {600, 1}, {1, 1}, {65, 1}};
  const std::vector<Size> prompts = {{70, 90}, {600, 1}, {1, 4}, {0, 1}};
  for (const Phase phase : {Phase::kDecode, Phase::kPrefill}) {
    for (const bool latent : {false, true}) {
      RandomLayer layer =
          latent ? RandomLayer::Latent(3) : RandomLayer::Grouped(2, 3, 16);
      std::deque<TestSequence> sequences;
      std::vector<SequenceRows> rows;
      std::vector<int64_t> positions;
      std::vector<float> x, want;
      for (const auto& [seen, count] :
           phase == Phase::kDecode ? decoded : prompts) {
        TestSequence& sequence =
            sequences.emplace_back(&layer, kCacheFormats[1]);
        if (seen > 0) sequence.Add(seen);
        const std::vector<float> more = layer.Values(count * kHidden);
        TestSequence alone = sequence;
        const std::vector<float> y = alone.Run(more, phase);
        want.insert(want.end(), y.begin(), y.end());
        rows.push_back({std::ssize(positions), count, &sequence.cache, seen});
        for (int64_t t = 0; t < count; ++t) positions.push_back(seen + t);
        x.insert(x.end(), more.begin(), more.end());
      }
      RopeTable rope(layer.config.rope);
      rope.Prepare(positions);
      AttentionScratch scratch;
      std::vector<float> y(x.size());
      Attend(layer.config, layer.weights, rope, {phase}, 1, x.data(), rows,
             &scratch, y.data());
      EXPECT_EQ(y, want);
    }
  }
}

// To the bit, also where the whole expands what its end alone would absorb, and
// the other way round.
TEST(AttentionTest, PartsOfAPromptAttendAsTheWhole) {
  for (const CacheFormat& format : kCacheFormats) {
    for (const bool latent : {false, true}) {
      for (const auto& [seen, tokens] : {std::pair{0, 330}, {600, 40}}) {
        RandomLayer layer =
            latent ? RandomLayer::Latent(3) : RandomLayer::Grouped(2, 3, 16);
        TestSequence whole(&layer, format);
        if (seen > 0) whole.Add(seen);
        TestSequence cut = whole;
        const std::vector<float> x = layer.Values(tokens * kHidden);
        const std::vector<float> want = whole.Run(x);
        std::vector<float> y;
        for (int64_t at = 0, count = 0; at < tokens; at += count) {
          count = std::min<int64_t>(at % 3 == 0 ? 1 : 19, tokens - at);
          const auto part = cut.Run(
              std::span(x).subspan(static_cast<size_t>(at * kHidden),
                                   static_cast<size_t>(count * kHidden)),
              Phase::kPrefill, at, tokens - at - count);
          y.insert(y.end(), part.begin(), part.end());
        }
        EXPECT_EQ(y, want) << format.name << " " << seen;
      }
    }
  }
}

}  // namespace
}  // namespace mobe
