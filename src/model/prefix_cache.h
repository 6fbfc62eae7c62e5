// Pages of sequences that are done or run, to be found again by the tokens of
// another that begins alike; and where there are delta nets, the states behind
// some of the pages, from which alone such a sequence can go on.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "model/kv_cache.h"

namespace mobe {

// A tree of pages: a page is known by the one before it and by its tokens, so
// what is found is what was computed after the very same tokens. All caches are
// of one pool, whose pages this keeps in use until EvictOne. One thread at a
// time.
class PrefixCache {
 public:
  // Keeps the states behind so many pages at most: those last used.
  explicit PrefixCache(int64_t most_states) : most_states_(most_states) {}

  // Remembers the full pages of a sequence; `tokens` are those in its cache, in
  // order, or the first of them. With states, those behind all of the cache,
  // too, or nothing where that does not end with a page.
  void Insert(std::span<const int32_t> tokens, const KvCache& cache);
  // Appends to an empty cache the pages that are known for the beginning of
  // `tokens`, but leaves at least one token to be computed: its logits are
  // wanted. With states, up to a page behind which they are known. Returns how
  // many tokens that makes.
  int64_t Adopt(std::span<const int32_t> tokens, KvCache* cache);
  // Gives the least recently used page that no sequence uses back to the pool;
  // false when there is none. To be called until the pool has as many as a
  // sequence needs (KvCache::PagesFor).
  bool EvictOne();

  int64_t pages() const { return static_cast<int64_t>(index_.size()); }

 private:
  // The page before, by its number (0: none), and the tokens of this one.
  using Key = std::pair<int64_t, std::vector<int32_t>>;
  struct Entry {
    int64_t number;  // never used again
    CachePage page;
    const Key* key;                  // in the index
    std::vector<float> states = {};  // behind the page; empty: not known
  };
  using Entries = std::list<Entry>;

  void KeepStates(const KvCache& cache, Entry* entry);

  Entries entries_;  // from the most to the least recently used
  std::map<Key, Entries::iterator> index_;
  int64_t last_number_ = 0;
  int64_t most_states_;
  int64_t states_ = 0;  // entries that have some
};

}  // namespace mobe
