#include "model/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "model/prefix_cache.h"

namespace mobe {
namespace {

ModelConfig CacheConfig(int64_t head_dim = 6) {
  ModelConfig c;
  c.num_layers = 2;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = head_dim;
  c.value_dim = head_dim;
  c.max_positions = 1000;
  return c;
}

float Number(int64_t layer, int64_t part, int64_t position, int64_t i) {
  const auto index = static_cast<float>(layer * 7 + part * 3 + i);
  return std::sin(index + static_cast<float>(position)) * (1.0f + index);
}

// Stores and counts `count` tokens that are Number of position + shift.
void Extend(KvCache* cache, int64_t count, int64_t shift = 0) {
  cache->Reserve(count);
  for (int64_t t = 0; t < count; ++t) {
    const int64_t position = cache->length() + t;
    for (int64_t layer = 0; layer < 2; ++layer) {
      for (size_t part = 0; part < cache->layout().parts.size(); ++part) {
        std::vector<float> x;
        const auto p = static_cast<int64_t>(part);
        for (int64_t i = 0; i < cache->layout().parts[part].width; ++i) {
          x.push_back(Number(layer, p, position + shift, i));
        }
        cache->Store(layer, p, position, x.data());
      }
    }
  }
  cache->Append(count);
}

float Stored(const KvCache& cache, int64_t layer, int64_t part,
             int64_t position, int64_t i) {
  const CacheLayout& l = cache.layout();
  const CachePart& p = l.parts[static_cast<size_t>(part)];
  const StoredTile tile = cache.Tile(layer, part, position / kPageTokens);
  const int64_t token = position % kPageTokens;
  const int64_t at = p.by_columns ? i * tile.numbers.stride + token
                                  : token * tile.numbers.stride + i;
  float number = 0;
  l.format.load(static_cast<const char*>(tile.numbers.data) +
                    at * DTypeSize(l.format.dtype),
                1, &number);
  return tile.scales == nullptr ? number : number * tile.scales[token];
}

void ExpectTokens(const KvCache& cache, int64_t begin, int64_t end,
                  int64_t shift = 0) {
  // Of the largest number of the vector: a bfloat16 has 8 bits, and of 127
  // steps half a one is lost.
  const double error = cache.layout().format.dtype == DType::kF32 ? 0
                       : cache.layout().format.dtype == DType::kBF16
                           ? 1.0 / 256
                           : 0.51 / 127;
  for (int64_t position = begin; position < end; ++position) {
    for (int64_t layer = 0; layer < 2; ++layer) {
      for (size_t part = 0; part < cache.layout().parts.size(); ++part) {
        const int64_t width = cache.layout().parts[part].width;
        const auto p = static_cast<int64_t>(part);
        float largest = 0;
        for (int64_t i = 0; i < width; ++i) {
          largest = std::max(largest,
                             std::abs(Number(layer, p, position + shift, i)));
        }
        for (int64_t i = 0; i < width; ++i) {
          ASSERT_NEAR(Stored(cache, layer, p, position, i),
                      Number(layer, p, position + shift, i), error * largest)
              << position << " " << layer << " " << part << " " << i;
        }
      }
    }
  }
}

TEST(KvCacheTest, KeepsTokensInEachFormat) {
  ModelConfig latent = CacheConfig();
  latent.latent.kv_rank = 10;
  latent.rope.dim = 4;
  for (const ModelConfig& config : {CacheConfig(), latent}) {
    for (const CacheFormat& format : kCacheFormats) {
      KvCache cache(config, 300, format);
      for (const int64_t count : {1, 62, 2, 70, 128, 1}) Extend(&cache, count);
      EXPECT_EQ(cache.length(), 264);
      ExpectTokens(cache, 0, 264);
      cache.Truncate(100);
      Extend(&cache, 50, 1000);
      ExpectTokens(cache, 0, 100);
      ExpectTokens(cache, 100, 150, 1000);
    }
  }
}

TEST(KvCacheTest, LoadsTilesAsFloats) {
  for (const CacheFormat& format : kCacheFormats) {
    KvCache cache(CacheConfig(), 100, format);
    Extend(&cache, 70);
    std::vector<float> tile(6 * kPageTokens);
    cache.LoadTile(1, KvCache::Keys(1), 1, tile.data());
    for (int64_t i = 0; i < 6; ++i) {
      for (int64_t t = 0; t < 6; ++t) {
        EXPECT_EQ(tile[static_cast<size_t>(i * kPageTokens + t)],
                  Stored(cache, 1, KvCache::Keys(1), kPageTokens + t, i));
      }
    }
  }
}

TEST(KvCacheTest, BytesOfAToken) {
  const ModelConfig wide = CacheConfig(128);  // as of most models
  const auto bytes = [&](const CacheFormat& format) {
    return static_cast<double>(CacheLayout(wide, format).page_bytes);
  };
  EXPECT_EQ(bytes(kExactCache), 2 * 2 * 2 * 128 * 4 * kPageTokens);
  EXPECT_EQ(bytes(kCacheFormats[1]), bytes(kExactCache) / 2);
  EXPECT_LT(bytes(kCacheFormats[2]), bytes(kExactCache) * 0.26);
}

TEST(KvCacheTest, ForksShareUntilTheyWrite) {
  const auto pool = std::make_shared<CachePool>(CacheConfig(), kExactCache, 5);
  KvCache first(CacheConfig(), 500, pool);
  Extend(&first, 150);
  EXPECT_EQ(pool->free_pages(), 2);
  KvCache fork = first.Fork(100);  // in the middle of the second page
  EXPECT_EQ(fork.length(), 100);
  EXPECT_EQ(pool->free_pages(), 2);
  EXPECT_EQ(fork.PagesFor(10), 1);
  Extend(&fork, 10, 2000);
  EXPECT_EQ(pool->free_pages(), 1);
  EXPECT_EQ(fork.PagesFor(10), 0);
  ExpectTokens(first, 0, 150);
  ExpectTokens(fork, 0, 100);
  ExpectTokens(fork, 100, 110, 2000);
  // The first writes where nobody else does.
  EXPECT_EQ(first.PagesFor(42), 0);
  EXPECT_EQ(first.PagesFor(43), 1);
  Extend(&first, 42);
  EXPECT_EQ(pool->free_pages(), 1);
  // From the first page's end on, nothing is to be copied.
  KvCache second = first.Fork(kPageTokens);
  EXPECT_EQ(second.PagesFor(1), 1);
  Extend(&second, 5, 3000);
  ExpectTokens(second, 0, kPageTokens);
  EXPECT_EQ(pool->free_pages(), 0);
  EXPECT_EQ(fork.PagesFor(40), 1);
  EXPECT_THROW(fork.Reserve(40), Error);
  second.Truncate(0);
  EXPECT_EQ(pool->free_pages(), 1);
  Extend(&fork, 40, 2000);
  ExpectTokens(fork, 100, 150, 2000);
  ExpectTokens(first, 0, 192);
}

TEST(KvCacheTest, PagesOutliveTheirPool) {
  auto pool = std::make_shared<CachePool>(CacheConfig(), kExactCache, 2);
  const CachePage page = pool->Take();
  pool.reset();
  std::fill_n(page.get(), 100, std::byte{1});  // the address sanitizer looks
}

TEST(KvCacheTest, AFullPoolSaysSo) {
  const auto pool = std::make_shared<CachePool>(CacheConfig(), kExactCache, 1);
  KvCache cache(CacheConfig(), 500, pool);
  Extend(&cache, 64);
  try {
    cache.Reserve(1);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kOutOfMemory);
    EXPECT_THAT(e.what(), testing::HasSubstr("1 pages of 64 tokens"));
  }
}

ModelConfig StatefulConfig() {
  ModelConfig c = CacheConfig();
  c.num_layers = 5;
  c.attention_interval = 2;
  c.delta = {.key_heads = 1,
             .value_heads = 2,
             .key_dim = 3,
             .value_dim = 4,
             .window = 4};
  return c;
}

// Layers 1 and 3 have pages, 0, 2 and 4 states.
TEST(KvCacheTest, EachKindOfLayerHasItsPlaces) {
  const CacheLayout layout(StatefulConfig(), kExactCache);
  EXPECT_EQ(layout.page_bytes, 2 * layout.layer_bytes);
  const int64_t state = 3 * (2 * 3 + 8) + 2 * 3 * 4;
  EXPECT_EQ(layout.state_floats, 3 * state);
  EXPECT_THAT(layout.starts,
              testing::ElementsAre(0, 0, state, layout.layer_bytes, 2 * state));
}

TEST(KvCacheTest, StatesGoOnOrBackToTheStart) {
  KvCache first(StatefulConfig(), 100);
  const auto add = [](KvCache* cache, float value) {
    cache->Reserve(1);
    cache->State(2)[5] += value;
    cache->Append(1);
  };
  add(&first, 1);
  KvCache second = first.Fork(1);
  add(&first, 2);
  add(&second, 5);
  const auto value = [](KvCache cache) { return cache.State(2)[5]; };
  EXPECT_EQ(value(first), 3);
  EXPECT_EQ(value(second), 6);
  first.Truncate(2);
  EXPECT_EQ(value(first), 3);
  EXPECT_EQ(first.Fork(1).length(), 0);
  EXPECT_EQ(value(first.Fork(1)), 0);
  first.Truncate(1);
  EXPECT_EQ(first.length(), 0);
  EXPECT_EQ(value(first), 0);
  // A pass that fails before Append.
  second.State(2)[5] += 1;
  EXPECT_THROW(second.CheckRoom(1), Error);
  second.Truncate(2);
  EXPECT_EQ(second.length(), 0);
  second.CheckRoom(1);
  EXPECT_EQ(value(second), 0);
}

class PrefixCacheTest : public testing::Test {
 protected:
  // Tokens whose pages are of the given kinds.
  static std::vector<int32_t> Tokens(const std::string& pages) {
    std::vector<int32_t> tokens;
    for (const char page : pages) {
      for (int32_t t = 0; t < kPageTokens; ++t) {
        tokens.push_back(page * 100 + t);
      }
    }
    return tokens;
  }
  KvCache Sequence(const std::string& pages) {
    KvCache cache(CacheConfig(), 1000, pool_);
    prefixes_.Adopt(Tokens(pages), &cache);
    const auto length = static_cast<int64_t>(pages.size()) * kPageTokens;
    Extend(&cache, length - cache.length());
    prefixes_.Insert(Tokens(pages), cache);
    return cache;
  }
  // Pages that a prompt of these and one token more would find.
  int64_t Found(const std::string& pages) {
    KvCache cache(CacheConfig(), 1000, pool_);
    std::vector<int32_t> tokens = Tokens(pages);
    tokens.push_back(1);
    const int64_t found = prefixes_.Adopt(tokens, &cache);
    ExpectTokens(cache, 0, found);
    return found / kPageTokens;
  }

  std::shared_ptr<CachePool> pool_ =
      std::make_shared<CachePool>(CacheConfig(), kExactCache, 8);
  PrefixCache prefixes_{2};
};

TEST_F(PrefixCacheTest, FindsTheLongestBeginning) {
  EXPECT_EQ(Found("AB"), 0);
  Sequence("ABC");
  EXPECT_EQ(prefixes_.pages(), 3);
  EXPECT_EQ(Found("ABC"), 3);
  EXPECT_EQ(Found("ABX"), 2);
  EXPECT_EQ(Found("BC"), 0);  // the same tokens after others
  EXPECT_EQ(Found("A"), 1);
  // A prompt's last token is left to compute.
  KvCache cache(CacheConfig(), 1000, pool_);
  EXPECT_EQ(prefixes_.Adopt(Tokens("ABC"), &cache), 2 * kPageTokens);
  KvCache none(CacheConfig(), 1000, pool_);
  EXPECT_EQ(prefixes_.Adopt({}, &none), 0);
}

TEST_F(PrefixCacheTest, SharesPages) {
  const KvCache one = Sequence("ABC");
  const KvCache two = Sequence("ABXY");
  EXPECT_EQ(pool_->free_pages(), 3);  // A, B, C, X and Y
  EXPECT_EQ(prefixes_.pages(), 5);
}

// A sequence's half page and what isn't in its cache yet are not remembered.
TEST_F(PrefixCacheTest, RemembersFullPagesOnly) {
  KvCache cache(CacheConfig(), 1000, pool_);
  Extend(&cache, 100);
  prefixes_.Insert(Tokens("ABC"), cache);
  EXPECT_EQ(prefixes_.pages(), 1);
}

TEST_F(PrefixCacheTest, EvictsTheLeastRecentlyUsedFromItsEnd) {
  Sequence("ABC");
  Sequence("DE");
  EXPECT_EQ(pool_->free_pages(), 3);
  EXPECT_EQ(Found("AB"), 2);  // used again; C is older now, then E and D
  EXPECT_TRUE(prefixes_.EvictOne());
  EXPECT_EQ(Found("DEX"), 2);
  EXPECT_EQ(Found("ABC"), 2);
  EXPECT_TRUE(prefixes_.EvictOne());
  EXPECT_EQ(Found("DEX"), 1);
  EXPECT_EQ(pool_->free_pages(), 5);
}

TEST_F(PrefixCacheTest, KeepsWhatSequencesUse) {
  {
    const KvCache running = Sequence("ABC");
    EXPECT_FALSE(prefixes_.EvictOne());
  }
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(prefixes_.EvictOne());
  EXPECT_FALSE(prefixes_.EvictOne());
  EXPECT_EQ(pool_->free_pages(), 8);
  EXPECT_EQ(Found("ABC"), 0);
}

// Pages are found up to where states are known, of the two texts used last.
TEST(PrefixCacheStatesTest, AreFoundWithTheirPages) {
  const ModelConfig config = StatefulConfig();
  const auto pool = std::make_shared<CachePool>(config, kExactCache, 20);
  PrefixCache prefixes(2);
  const auto tokens = [](int64_t count, int32_t first) {
    std::vector<int32_t> ids(static_cast<size_t>(count), 7);
    ids.front() = first;
    return ids;
  };
  const auto insert = [&](int64_t count, int32_t first, bool fails = false) {
    KvCache cache(config, 1000, pool);
    cache.Reserve(count);
    cache.State(4)[0] = static_cast<float>(count + first);
    cache.Append(count);
    if (fails) cache.State(4)[0] = 0;
    prefixes.Insert(tokens(count + 1, first), cache);
  };
  // Of a prompt of `count` tokens: those known, with the right states.
  const auto found = [&](int64_t count, int32_t first) {
    KvCache cache(config, 1000, pool);
    const int64_t known = prefixes.Adopt(tokens(count, first), &cache);
    cache.CheckRoom(1);
    const auto want = static_cast<float>(known == 0 ? 0 : known + first);
    EXPECT_EQ(cache.State(4)[0], want);
    return known;
  };
  constexpr int64_t kPage = kPageTokens;
  insert(2 * kPage, 1, true);
  insert(2 * kPage + 1, 1);
  EXPECT_EQ(prefixes.pages(), 0);
  insert(2 * kPage, 1);
  EXPECT_EQ(found(2 * kPage + 1, 1), 2 * kPage);
  EXPECT_EQ(found(9 * kPage, 1), 2 * kPage);
  EXPECT_EQ(found(2 * kPage, 1),
            0);  // nothing is known of the first page's end
  insert(3 * kPage, 1);
  EXPECT_EQ(found(3 * kPage, 1), 2 * kPage);
  EXPECT_EQ(found(3 * kPage + 1, 1), 3 * kPage);
  EXPECT_EQ(found(2 * kPage + 1, 1), 2 * kPage);
  insert(kPage, 2);  // in place of the longer one
  EXPECT_EQ(found(kPage + 1, 2), kPage);
  EXPECT_EQ(found(9 * kPage, 1), 2 * kPage);
  while (prefixes.EvictOne()) {
  }
  EXPECT_EQ(found(9 * kPage, 1), 0);
  insert(kPage, 3);
  EXPECT_EQ(found(kPage + 1, 3), kPage);
}

}  // namespace
}  // namespace mobe
