// What attention keeps of the tokens that a sequence has seen: keys and values
// of each head, or the latent vectors that they are made of; and what delta
// nets keep, a state of all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/cache_pool.h"
#include "model/tile_attention.h"

namespace mobe {

// Holds up to context() tokens, in pages that it takes from a pool as they are
// needed. A copy shares the pages; which of them a sequence writes to, it
// copies first. States it has for itself.
class KvCache {
 public:
  // With a pool of its own, or one of several sequences of this config. Fails
  // with kUserInput when `context` is not in [1, config.max_positions].
  KvCache(const ModelConfig& config, int64_t context,
          const CacheFormat& format = kExactCache);
  KvCache(const ModelConfig& config, int64_t context,
          std::shared_ptr<CachePool> pool);

  int64_t length() const { return length_; }
  int64_t context() const { return context_; }
  const CacheLayout& layout() const { return pool_->layout(); }

  // Fails with kUserInput, telling the limit, when `tokens` more don't fit; and
  // with kInternal when it is not whole.
  void CheckRoom(int64_t tokens) const;
  // Pages that `tokens` more take from the pool.
  int64_t PagesFor(int64_t tokens) const;
  // Has pages that nobody else sees for `tokens` more, so that they can be
  // stored. Fails as CachePool::Take does.
  void Reserve(int64_t tokens);
  // Counts `tokens` more as seen, once every layer has stored them.
  void Append(int64_t tokens) {
    length_ += tokens;
    states_are_ahead_ = false;
  }
  // Forgets all tokens from `length` on. States can't go back but to the start:
  // where there are some, forgets all tokens, unless there are `length`.
  void Truncate(int64_t length);

  // Another sequence that begins with the first `tokens` of these: with states,
  // as Truncate has it.
  KvCache Fork(int64_t tokens) const;
  // The tokens [index * kPageTokens, (index + 1) * kPageTokens), all of which
  // are seen; and the same, to go on with after whole pages.
  const CachePage& page(int64_t index) const {
    return pages_[static_cast<size_t>(index)];
  }
  void AppendPage(CachePage page);

  // Parts of a layer, CacheLayout::parts.
  static int64_t Keys(int64_t kv_head) { return 2 * kv_head; }
  static int64_t Values(int64_t kv_head) { return 2 * kv_head + 1; }
  static constexpr int64_t kLatents = 0;
  static constexpr int64_t kRotatedKeys = 1;

  // Keeps x [width] as a part of the token at `position`, which is reserved.
  // Threads may store different tokens or parts.
  void Store(int64_t layer, int64_t part, int64_t position, const float* x);
  // A part as stored, of all tokens of page `index`, and as floats [width,
  // kPageTokens], for one that lies by columns.
  StoredTile Tile(int64_t layer, int64_t part, int64_t index) const;
  void LoadTile(int64_t layer, int64_t part, int64_t index, float* to) const;

  bool has_states() const { return layout().state_floats > 0; }
  // No pass has changed states and failed before Append.
  bool is_whole() const { return !states_are_ahead_; }
  // Of a delta net (delta_net.h): zero at the start of the sequence. Who takes
  // it writes it for the tokens that Append counts next.
  float* State(int64_t layer);
  // Of all delta nets, behind the tokens counted: for another sequence that
  // begins with these.
  const std::vector<float>& states() const { return states_; }
  void SetStates(const std::vector<float>& states) { states_ = states; }

 private:
  int64_t context_;
  std::shared_ptr<CachePool> pool_;
  int64_t length_ = 0;
  std::vector<CachePage> pages_;
  std::vector<float> states_;
  bool states_are_ahead_ = false;  // of length_
};

}  // namespace mobe
