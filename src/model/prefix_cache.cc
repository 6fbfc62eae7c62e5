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
  const int64_t known =
      std::min(static_cast<int64_t>(tokens.size()), cache.length());
  const bool ends_with_page =
      known == cache.length() && known > 0 && known % kPageTokens == 0;
  if (cache.has_states() && !(ends_with_page && cache.is_whole())) return;
  // A page is used before those behind it are: they are to be evicted first,
  // since without it nobody finds them.
  auto place = entries_.begin();
  int64_t before = 0;
  for (int64_t i = 0; i < known / kPageTokens; ++i) {
    const auto [found, is_new] =
        index_.try_emplace({before, PageTokens(tokens, i)});
    if (is_new) {
      try {
        found->second = entries_.insert(
            place, {++last_number_, cache.page(i), &found->first});
      } catch (...) {
        index_.erase(found);
        throw;
      }
    } else {
      entries_.splice(place, entries_, found->second);
    }
    place = std::next(found->second);
    before = found->second->number;
  }
  if (cache.has_states()) KeepStates(cache, &*std::prev(place));
}

void PrefixCache::KeepStates(const KvCache& cache, Entry* entry) {
  if (!entry->states.empty()) return;
  entry->states = cache.states();
  ++states_;
  for (auto e = entries_.rbegin(); states_ > most_states_; ++e) {
    if (e->states.empty()) continue;
    e->states = {};
    --states_;
  }
}

int64_t PrefixCache::Adopt(std::span<const int32_t> tokens, KvCache* cache) {
  std::vector<Entries::iterator> known;
  int64_t before = 0;
  const auto wanted = static_cast<int64_t>(tokens.size()) - 1;
  for (int64_t i = 0; i < wanted / kPageTokens; ++i) {
    const auto found = index_.find({before, PageTokens(tokens, i)});
    if (found == index_.end()) break;
    known.push_back(found->second);
    before = found->second->number;
  }
  if (cache->has_states()) {
    while (!known.empty() && known.back()->states.empty()) known.pop_back();
    if (!known.empty()) cache->SetStates(known.back()->states);
  }
  auto place = entries_.begin();
  for (const Entries::iterator entry : known) {
    cache->AppendPage(entry->page);
    entries_.splice(place, entries_, entry);
    place = std::next(entry);
  }
  return cache->length();
}

bool PrefixCache::EvictOne() {
  const auto found =
      std::find_if(entries_.rbegin(), entries_.rend(),
                   [](const Entry& e) { return e.page.use_count() == 1; });
  if (found == entries_.rend()) return false;
  if (!found->states.empty()) --states_;
  index_.erase(*found->key);
  entries_.erase(std::next(found).base());
  return true;
}

}  // namespace mobe
