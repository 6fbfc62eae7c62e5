#include "model/prefix_cache.h"

#include <algorithm>
#include <iterator>

namespace mobe {
namespace {

std::vector<int32_t> PageTokens(std::span<const int32_t> tokens, int64_t page) {
  const auto of_page = tokens.subspan(static_cast<size_t>(page * kPageTokens),
                                      static_cast<size_t>(kPageTokens));
  return {of_page.begin(), of_page.end()};
}

}  // namespace

void PrefixCache::Insert(std::span<const int32_t> tokens,
                         const KvCache& cache) {
  // Pages alone don't go on without the state at their end, which is gone.
  if (cache.has_states()) return;
  const int64_t known =
      std::min(static_cast<int64_t>(tokens.size()), cache.length());
  // A page is used before those behind it are: they are to be evicted first,
  // since without it nobody finds them.
  auto place = entries_.begin();
  int64_t before = 0;
  for (int64_t i = 0; i < known / kPageTokens; ++i) {
    const auto [found, is_new] =
        index_.try_emplace({before, PageTokens(tokens, i)});
    if (is_new) {
      found->second = entries_.insert(
          place, {++last_number_, cache.page(i), &found->first});
    } else {
      entries_.splice(place, entries_, found->second);
    }
    place = std::next(found->second);
    before = found->second->number;
  }
}

int64_t PrefixCache::Adopt(std::span<const int32_t> tokens, KvCache* cache) {
  auto place = entries_.begin();
  int64_t before = 0;
  const auto wanted = static_cast<int64_t>(tokens.size()) - 1;
  for (int64_t i = 0; i < wanted / kPageTokens; ++i) {
    const auto found = index_.find({before, PageTokens(tokens, i)});
    if (found == index_.end()) break;
    cache->AppendPage(found->second->page);
    entries_.splice(place, entries_, found->second);
    place = std::next(found->second);
    before = found->second->number;
  }
  return cache->length();
}

bool PrefixCache::EvictOne() {
  const auto found =
      std::find_if(entries_.rbegin(), entries_.rend(),
                   [](const Entry& e) { return e.page.use_count() == 1; });
  if (found == entries_.rend()) return false;
  index_.erase(*found->key);
  entries_.erase(std::next(found).base());
  return true;
}

}  // namespace mobe
