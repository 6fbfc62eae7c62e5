#include "model/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/error.h"
#include "kernels/kernels.h"

namespace mobe {
namespace {

int64_t PagesOf(int64_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

// One token's vector, [count], beside those of the page's other tokens.
template <class T>
void StoreColumn(const std::byte* from, int64_t count, std::byte* to) {
  const auto* numbers = reinterpret_cast<const T*>(from);
  auto* column = reinterpret_cast<T*>(to);
  for (int64_t i = 0; i < count; ++i) column[i * kPageTokens] = numbers[i];
}

void StoreColumn(const std::byte* from, int64_t count, int64_t size,
                 std::byte* to) {
  switch (size) {
    case 1:
      return StoreColumn<uint8_t>(from, count, to);
    case 2:
      return StoreColumn<uint16_t>(from, count, to);
    default:
      return StoreColumn<uint32_t>(from, count, to);
  }
}

}  // namespace

KvCache::KvCache(const ModelConfig& config, int64_t context,
                 const CacheFormat& format)
    : KvCache(config, context,
              std::make_shared<CachePool>(
                  config, format, std::numeric_limits<int64_t>::max())) {}

KvCache::KvCache(const ModelConfig& config, int64_t context,
                 std::shared_ptr<CachePool> pool)
    : context_(context),
      pool_(std::move(pool)),
      states_(static_cast<size_t>(layout().state_floats)) {
  if (context < 1 || context > config.max_positions) {
    Fail(ErrorKind::kUserInput,
         "a context of {} tokens, expected 1 to {} (what the model takes)",
         context, config.max_positions);
  }
}

void KvCache::CheckRoom(int64_t tokens) const {
  if (!is_whole()) {
    Fail(ErrorKind::kInternal,
         "a step of this text has failed half-way; it has to be computed from "
         "its start");
  }
  if (tokens <= context_ - length_) return;
  Fail(ErrorKind::kUserInput,
       "{} tokens after {} exceed the context, which is limited to {} tokens",
       tokens, length_, context_);
}

int64_t KvCache::PagesFor(int64_t tokens) const {
  int64_t pages = PagesOf(length_ + tokens);
  for (int64_t i = 0; i < static_cast<int64_t>(pages_.size()); ++i) {
    const bool is_written = i >= length_ / kPageTokens;
    if (!is_written || page(i).use_count() == 1) --pages;
  }
  return std::max<int64_t>(pages, 0);
}

void KvCache::Reserve(int64_t tokens) {
  const int64_t end = PagesOf(length_ + tokens);
  for (int64_t i = length_ / kPageTokens; i < end; ++i) {
    if (i == static_cast<int64_t>(pages_.size())) {
      pages_.push_back(pool_->Take());
      continue;
    }
    CachePage& page = pages_[static_cast<size_t>(i)];
    if (page.use_count() == 1) continue;
    CachePage own = pool_->Take();
    std::memcpy(own.get(), page.get(),
                static_cast<size_t>(layout().page_bytes));
    page = std::move(own);
  }
}

void KvCache::Truncate(int64_t length) {
  if (has_states() && (length != length_ || !is_whole())) {
    std::ranges::fill(states_, 0.0f);
    states_are_ahead_ = false;
    length = 0;
  }
  length_ = length;
  const auto pages = static_cast<size_t>(PagesOf(length));
  if (pages < pages_.size()) pages_.resize(pages);
}

KvCache KvCache::Fork(int64_t tokens) const {
  KvCache fork = *this;
  fork.Truncate(tokens);
  return fork;
}

void KvCache::AppendPage(CachePage page) {
  Truncate(length_);  // gives back what is reserved
  pages_.push_back(std::move(page));
  length_ += kPageTokens;
}

// NOLINTNEXTLINE(readability-make-member-function-const): it writes to pages
void KvCache::Store(int64_t layer, int64_t part, int64_t position,
                    const float* x) {
  const CacheLayout& l = layout();
  const CachePart& p = l.parts[static_cast<size_t>(part)];
  std::byte* base =
      page(position / kPageTokens).get() + l.starts[static_cast<size_t>(layer)];
  const int64_t row = position % kPageTokens;
  const int64_t size = DTypeSize(l.format.dtype);
  std::byte* numbers = base + p.numbers;
  float scale = 1;
  if (p.by_columns) {
    thread_local Buffer<std::byte> rounded;
    rounded.Resize(p.width * size);
    scale = l.format.store(x, p.width, rounded.data());
    StoreColumn(rounded.data(), p.width, size, numbers + row * size);
  } else {
    scale = l.format.store(x, p.width, numbers + row * p.width * size);
  }
  if (l.format.scaled) reinterpret_cast<float*>(base + p.scales)[row] = scale;
}

StoredTile KvCache::Tile(int64_t layer, int64_t part, int64_t index) const {
  const CacheLayout& l = layout();
  const CachePart& p = l.parts[static_cast<size_t>(part)];
  const std::byte* base =
      page(index).get() + l.starts[static_cast<size_t>(layer)];
  const float* scales = reinterpret_cast<const float*>(base + p.scales);
  return {
      {l.format.dtype, base + p.numbers, p.by_columns ? kPageTokens : p.width},
      l.format.scaled ? scales : nullptr};
}

float* KvCache::State(int64_t layer) {
  states_are_ahead_ = true;
  return states_.data() + layout().starts[static_cast<size_t>(layer)];
}

void KvCache::LoadTile(int64_t layer, int64_t part, int64_t index,
                       float* to) const {
  const int64_t width = layout().parts[static_cast<size_t>(part)].width;
  const StoredTile tile = Tile(layer, part, index);
  layout().format.load(tile.numbers.data, width * kPageTokens, to);
  if (tile.scales == nullptr) return;
  for (int64_t i = 0; i < width; ++i, to += kPageTokens) {
    Kernels().multiply(to, tile.scales, kPageTokens, to);
  }
}

}  // namespace mobe
