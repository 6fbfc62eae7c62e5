// Memory for what attention keeps of the tokens that sequences have seen, in
// pages of a few tokens (Kwon et al. 2023, arXiv 2309.06180): it follows what
// sequences hold, and those that begin alike can share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/matrix.h"
#include "families/family.h"
#include "model/cache_format.h"
#include "model/tile_attention.h"

namespace mobe {

// Tokens of a page: a tile of attention. What sequences share is a multiple.
inline constexpr int64_t kPageTokens = kTileTokens;

// One vector of each token, in every layer of attention: a head's keys or
// values, or the latent vectors.
struct CachePart {
  int64_t width = 0;  // of the vector
  // Whether the tokens of a page lie side by side, [width, kPageTokens], rather
  // than one below the other. So lie what queries are multiplied by: the sums
  // of a product with queries then are lanes of a vector.
  bool by_columns = false;
  int64_t numbers = 0;  // bytes from a layer's start to the numbers
  int64_t scales = 0;   // and to the scales, float32 [kPageTokens], if any
};

// Where things are in a page, which holds all layers of attention of its
// tokens, and in the states of a sequence's delta nets, one of each, of all its
// tokens.
struct CacheLayout {
  CacheLayout(const ModelConfig& config, const CacheFormat& format);

  CacheFormat format;
  // Grouped-query attention: of each key head, keys and values. Latent
  // attention: latent vectors, normed, and the rotated keys of all heads.
  std::vector<CachePart> parts;
  // Of each layer: bytes from the start of a page, or floats from that of the
  // states.
  std::vector<int64_t> starts;
  int64_t layer_bytes = 0;
  int64_t page_bytes = 0;
  int64_t state_floats = 0;  // of all states together; 0: there are none

  int64_t state_bytes() const {
    return state_floats * static_cast<int64_t>(sizeof(float));
  }
};

// The last of its owners gives it back to the pool, which may be gone by then.
using CachePage = std::shared_ptr<std::byte>;

// Gives out up to max_pages pages and takes them back. Pages are allocated when
// they are first needed and kept for the next. One thread at a time.
class CachePool {
 public:
  CachePool(const ModelConfig& config, const CacheFormat& format,
            int64_t max_pages);

  const CacheLayout& layout() const { return layout_; }
  // Pages that Take would still give.
  int64_t free_pages() const { return max_pages_ - memory_->used; }

  int64_t used_pages() const { return memory_->used; }

  // A page of any content. Fails with kOutOfMemory when all are in use.
  CachePage Take();

 private:
  struct Memory {
    std::vector<Buffer<std::byte>> all;
    std::vector<std::byte*> free;  // of these; room for all
    int64_t used = 0;
  };

  CacheLayout layout_;
  int64_t max_pages_;
  std::shared_ptr<Memory> memory_;
};

}  // namespace mobe
