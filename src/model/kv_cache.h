// What attention keeps of the tokens that a sequence has seen, in float32: keys
// and values of each head, or the latent vectors that they are made of.
#pragma once

#include <cstdint>
#include <vector>

#include "base/matrix.h"
#include "families/family.h"

namespace mobe {

// Holds up to context() tokens. All of it is allocated at once and never
// copied: the kernel hands out a page when it is first written, so the memory
// in use follows length(), and a cache that grew would have to move everything
// each time, because each head's positions lie together.
class KvCache {
 public:
  // Fails with kUserInput when `context` is not in [1, config.max_positions].
  KvCache(const ModelConfig& config, int64_t context);

  int64_t length() const { return length_; }
  int64_t context() const { return context_; }

  // Fails with kUserInput, telling the limit, when `tokens` more don't fit.
  void CheckRoom(int64_t tokens) const;
  // Counts `tokens` more as seen, once every layer has written them.
  void Append(int64_t tokens) { length_ += tokens; }
  // Forgets all tokens from `length` on.
  void Truncate(int64_t length) { length_ = length; }

  // Of grouped-query attention: [context, head_dim] of one layer and head.
  float* Keys(int64_t layer, int64_t kv_head) {
    return Head(2 * layer, kv_head);
  }
  float* Values(int64_t layer, int64_t kv_head) {
    return Head(2 * layer + 1, kv_head);
  }
  // Of latent attention: [context, kv_rank + rope.dim] of one layer; a token's
  // latent vector, normed, and behind it the rotated key of all heads.
  float* Latents(int64_t layer) { return Head(layer, 0); }

 private:
  float* Head(int64_t part, int64_t head) {
    return parts_[static_cast<size_t>(part)].data() + head * context_ * width_;
  }

  int64_t context_;
  int64_t width_;  // numbers of one token in one head, or of one latent vector
  int64_t length_ = 0;
  // Keys and values of each layer in turn, [kv_heads, context, head_dim], or
  // each layer's latent vectors.
  std::vector<Buffer<float>> parts_;
};

}  // namespace mobe
