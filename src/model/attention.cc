#include "model/attention.h"

#include <algorithm>

#include "base/parallel.h"
#include "kernels/kernels.h"
#include "model/token_grain.h"

namespace mobe {

void Attend(const ModelConfig& c, const AttentionWeights& w,
            const RopeTable& rope, const Arithmetic& math, int64_t layer,
            const float* x, std::span<const SequenceRows> sequences,
            AttentionScratch* s, float* y) {
  const int64_t tokens = sequences.back().first + sequences.back().count;
  s->context.Resize(tokens * w.output.cols);
  for (const SequenceRows& rows : sequences) {
    rows.cache->Reserve(rows.position + rows.count - rows.cache->length());
  }
  if (w.delta) {
    RunDeltaNet(c, *w.delta, math, layer, x, sequences, &s->delta,
                s->context.data());
  } else {
    const auto attend =
        c.IsLatent() ? internal::AttendLatent : internal::AttendGrouped;
    attend(c, w, rope, math, layer, x, sequences, s);
  }
  Linear(w.output, s->context.data(), tokens, math, y);
  if (w.output_bias.empty()) return;
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = y + t * w.output.rows;
    Kernels().add(row, w.output_bias.data(), w.output.rows, row);
  }
}

namespace internal {

void ForEachToken(std::span<const SequenceRows> sequences,
                  const std::function<void(int64_t, KvCache*, int64_t)>& body) {
  const int64_t tokens = sequences.back().first + sequences.back().count;
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    for (const SequenceRows& rows : sequences) {
      const int64_t last = std::min(end, rows.first + rows.count);
      for (int64_t t = std::max(begin, rows.first); t < last; ++t) {
        body(t, rows.cache, rows.position + t - rows.first);
      }
    }
  });
}

}  // namespace internal

}  // namespace mobe
