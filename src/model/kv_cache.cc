#include "model/kv_cache.h"

namespace mobe {

KvCache::KvCache(const ModelConfig& config, int64_t context)
    : context_(context),
      width_(config.IsLatent() ? config.latent.kv_rank + config.rope.dim
                               : config.head_dim) {
  if (context < 1 || context > config.max_positions) {
    Fail(ErrorKind::kUserInput,
         "a context of {} tokens, expected 1 to {} (the model's "
         "max_position_embeddings)",
         context, config.max_positions);
  }
  const int64_t heads = config.IsLatent() ? 1 : config.num_kv_heads;
  const int64_t parts = config.num_layers * (config.IsLatent() ? 1 : 2);
  const int64_t shape[] = {heads, context, width_};
  const auto size = CheckedProduct(shape);
  if (!size || *size > static_cast<uint64_t>(INT64_MAX)) {
    Fail(ErrorKind::kOutOfMemory, "a cache of {} tokens fits in no memory",
         context);
  }
  for (int64_t part = 0; part < parts; ++part) {
    parts_.emplace_back(static_cast<int64_t>(*size));
  }
}

void KvCache::CheckRoom(int64_t tokens) const {
  if (tokens <= context_ - length_) return;
  Fail(ErrorKind::kUserInput,
       "{} tokens after {} exceed the context, which is limited to {} tokens",
       tokens, length_, context_);
}

}  // namespace mobe
