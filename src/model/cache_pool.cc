#include "model/cache_pool.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "model/delta_net.h"

namespace mobe {

CacheLayout::CacheLayout(const ModelConfig& config, const CacheFormat& f)
    : format(f) {
  if (config.IsLatent()) {
    parts = {{config.latent.kv_rank, true}, {config.rope.dim, true}};
  } else {
    for (int64_t head = 0; head < config.num_kv_heads; ++head) {
      parts.push_back({config.head_dim, true});
      parts.push_back({config.value_dim, false});
    }
  }
  for (CachePart& part : parts) {
    part.numbers = layer_bytes;
    part.scales = part.numbers + WholeLines(part.width * kPageTokens *
                                            DTypeSize(format.dtype));
    layer_bytes = part.scales;
    if (format.scaled) {
      layer_bytes +=
          WholeLines(kPageTokens * static_cast<int64_t>(sizeof(float)));
    }
  }
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const bool is_delta = config.IsDeltaLayer(layer);
    int64_t& size = is_delta ? state_floats : page_bytes;
    starts.push_back(size);
    size += is_delta ? StateFloats(config.delta) : layer_bytes;
  }
}

CachePool::CachePool(const ModelConfig& config, const CacheFormat& format,
                     int64_t max_pages)
    : layout_(config, format),
      max_pages_(max_pages),
      memory_(std::make_shared<Memory>()) {}

CachePage CachePool::Take() {
  Memory& memory = *memory_;
  if (memory.used >= max_pages_) {
    Fail(ErrorKind::kOutOfMemory,
         "the cache is full: all of its {} pages of {} tokens are in use",
         max_pages_, kPageTokens);
  }
  if (memory.free.empty()) {
    memory.free.reserve(memory.all.size() + 1);
    Buffer<std::byte>& page = memory.all.emplace_back(layout_.page_bytes);
    // A tile is read whole, also where it has few tokens.
    std::fill(page.begin(), page.end(), std::byte{0});
    memory.free.push_back(page.data());
  }
  const auto give_back = [owner = memory_](std::byte* page) {
    owner->free.push_back(page);
    --owner->used;
  };
  std::byte* page = memory.free.back();
  memory.free.pop_back();
  ++memory.used;
  return {page, give_back};  // which calls it when it has no memory itself
}

}  // namespace mobe
