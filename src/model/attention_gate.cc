#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "model/attention.h"
#include "model/token_grain.h"

namespace mobe::internal {

void SplitGates(const ModelConfig& c, int64_t tokens, AttentionScratch* s) {
  const int64_t heads = tokens * c.num_heads;
  s->gate.Resize(heads * c.head_dim);
  ParallelRanges(heads, kTokenGrain, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) {
      const float* both = s->gated_query.data() + 2 * h * c.head_dim;
      std::copy_n(both, c.head_dim, s->query.data() + h * c.head_dim);
      std::copy_n(both + c.head_dim, c.head_dim,
                  s->gate.data() + h * c.head_dim);
    }
  });
}

void ApplyGates(int64_t count, AttentionScratch* s) {
  constexpr int64_t kGrain = 4096;
  ParallelRanges(count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      s->context[i] /= 1 + std::exp(-s->gate[i]);
    }
  });
}

}  // namespace mobe::internal
